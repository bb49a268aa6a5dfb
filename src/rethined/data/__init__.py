"""Photographs to train and test with: fixed masks, DF8K-Inpainting, manifests, shards, packs. Needs no PyTorch."""
