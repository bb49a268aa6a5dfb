// Fills holes in photographs with a Core ML core; what surrounds the network is the C++ runner's header.
//
//     rethined export coreml --size 512x512 -o core.mlpackage
//
// Add core.mlpackage, this file, rethined.hpp and module.modulemap to a target whose C++ interoperability is on
// (-cxx-interoperability-mode=default; Swift 5.9). Not compiled in this project's tests, only parsed.

import CoreML
import Rethined

final class Inpainter {
    private let model: MLModel
    private let side: Int32 = 512  // of the exported core

    /// `package` is the compiled model: `Bundle.main.url(forResource: "core", withExtension: "mlmodelc")`.
    init(package: URL) throws {
        model = try MLModel(contentsOf: package)
    }

    /// `image` (height, width, 3) RGB, filled where `hole` (height, width) is not 0.
    func fill(image: [UInt8], hole: [UInt8], height: Int, width: Int) throws -> [UInt8] {
        precondition(image.count == 3 * height * width && hole.count == height * width, "image and mask differ in size")
        guard hole.contains(where: { $0 != 0 }) else { return image }
        let photo = rethined.Bytes(image), mask = rethined.Bytes(hole)
        let window = rethined.window(mask, Int32(height), Int32(width), side, side)  // all that the core can see
        let small = rethined.shrink(photo, mask, Int32(height), Int32(width), window)
        let h = Int(small.h), w = Int(small.w)
        var inputs = ["image": tensor(small.image, [1, 3, h, w]), "mask": tensor(small.mask, [1, 1, h, w])]
        if model.modelDescription.inputDescriptionsByName["detail"] != nil {  // networks may be trained without
            inputs["detail"] = tensor(small.detail, [1, 6, h / 8, w / 8])
        }
        let outputs = try model.prediction(from: MLDictionaryFeatureProvider(dictionary: inputs))
        var answer = rethined.Answer()
        answer.low = floats(outputs, "low")
        answer.query = floats(outputs, "query")
        answer.key = floats(outputs, "key")
        return [UInt8](rethined.complete(photo, mask, Int32(height), Int32(width), small, answer))
    }

    private func tensor(_ values: rethined.Floats, _ shape: [Int]) -> MLFeatureValue {
        MLFeatureValue(shapedArray: MLShapedArray<Float>(scalars: [Float](values), shape: shape))
    }

    private func floats(_ outputs: MLFeatureProvider, _ name: String) -> rethined.Floats {
        let array = outputs.featureValue(for: name)!.multiArrayValue!
        return rethined.Floats(MLShapedArray<Float>(converting: array).scalars)
    }
}
