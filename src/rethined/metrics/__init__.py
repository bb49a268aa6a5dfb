"""How good a filled image is: L1, PSNR, SSIM, LPIPS (whole image, inside the hole), FID-768. Needs torch."""
