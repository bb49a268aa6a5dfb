// rethined rethined.onnx photo.ppm mask.pgm filled.ppm: binary PPM and PGM; white in the mask is filled.

#include <cctype>
#include <fstream>
#include <iostream>
#include <iterator>
#include <limits>
#include <openvino/openvino.hpp>

#include "rethined.hpp"

// The core in OpenVINO, which reads ONNX files and its own; and the rows and columns of the only grid that it takes, or 0.
static std::tuple<rethined::Core, int, int> open_core(const std::string& path) {
    ov::Core runtime;
    ov::CompiledModel model;
    try {  // processors with matrix units would compute in bfloat16
        model = runtime.compile_model(path, "CPU", ov::hint::inference_precision(ov::element::f32));
    } catch (const ov::Exception&) {  // whose words are many
        throw std::runtime_error(path + " is not a core that OpenVINO can load");
    }
    const auto has = [](const std::vector<ov::Output<const ov::Node>>& ends, const char* name) {
        return std::any_of(ends.begin(), ends.end(), [&](const auto& end) { return end.get_names().count(name) > 0; });
    };
    const auto inputs = model.inputs(), outputs = model.outputs();
    const bool detail = has(inputs, "detail");
    if (inputs.size() != (detail ? 3u : 2u) || !has(inputs, "image") || !has(inputs, "mask") || !has(outputs, "low") ||
        !has(outputs, "query") || !has(outputs, "key") || model.input("image").get_partial_shape().rank() != 4)
        throw std::runtime_error(path + " is not a rethined core that searches; give one written by `rethined export`");
    const ov::PartialShape shape = model.input("image").get_partial_shape();
    const bool fixed = shape.is_static();
    const auto run = [model, path, detail](const rethined::Small& small) mutable {
        const auto h = std::size_t(small.h), w = std::size_t(small.w);
        auto request = model.create_infer_request();
        const auto set = [&](const char* name, const rethined::Floats& values, const ov::Shape& shape) {
            request.set_tensor(name, ov::Tensor(ov::element::f32, shape, const_cast<float*>(values.data())));
        };
        const auto take = [&](const char* name) {
            const ov::Tensor tensor = request.get_tensor(name);
            return rethined::Floats(tensor.data<float>(), tensor.data<float>() + tensor.get_size());
        };
        try {
            set("image", small.image, {1, 3, h, w});
            set("mask", small.mask, {1, 1, h, w});
            if (detail) set("detail", small.detail, {1, 6, h / 8, w / 8});  // networks may be trained without
            request.infer();
            return rethined::Answer{take("low"), take("query"), take("key")};
        } catch (const ov::Exception&) {
            throw std::runtime_error(path + " does not take what a rethined core takes");
        }
    };
    return {run, fixed ? int(shape[2].get_length()) : 0, fixed ? int(shape[3].get_length()) : 0};
}

struct Picture {
    int height, width;
    rethined::Bytes pixels;
};

// A number of the header, after white space and comments.
static int number(std::istream& file) {
    int value = 0;
    while ((file >> std::ws).peek() == '#') file.ignore(std::numeric_limits<std::streamsize>::max(), '\n');
    file >> value;
    return value;
}

static Picture read(const std::string& path, const std::string& kind, int channels) {
    std::ifstream file(path, std::ios::binary);
    std::string magic;
    file >> magic;
    const int width = number(file), height = number(file), peak = number(file);
    const int after = file.get();  // one white space; then pixels
    if (!file || magic != kind || width < 1 || height < 1 || peak != 255 || !std::isspace(after))
        throw std::runtime_error(path + " is not a binary " + kind + " of 8 bits");
    // What is there, before as much is asked for as the header says.
    rethined::Bytes pixels{std::istreambuf_iterator<char>(file), {}};
    const std::size_t size = std::size_t(height) * width * channels;
    if (pixels.size() < size) throw std::runtime_error(path + " is cut short");
    pixels.resize(size);
    return {height, width, std::move(pixels)};
}

int main(int count, char** arguments) try {
    if (count != 5) throw std::runtime_error("usage: rethined rethined.onnx photo.ppm mask.pgm filled.ppm");
    const Picture photo = read(arguments[2], "P6", 3);
    Picture mask = read(arguments[3], "P5", 1);
    const auto size = [](const Picture& of) { return std::to_string(of.width) + "x" + std::to_string(of.height); };
    if (size(mask) != size(photo)) throw std::runtime_error("mask is " + size(mask) + ", image " + size(photo));
    for (auto& value : mask.pixels) value = value >= 128;
    const auto [core, h, w] = open_core(arguments[1]);
    const auto result = rethined::inpaint(core, photo.pixels, mask.pixels, photo.height, photo.width, h, w);
    std::ofstream out(arguments[4], std::ios::binary);
    out << "P6\n" << photo.width << ' ' << photo.height << "\n255\n";
    out.write(reinterpret_cast<const char*>(result.data()), std::streamsize(result.size()));
    out.close();  // a full disk may show here alone
    if (!out) throw std::runtime_error(std::string(arguments[4]) + " cannot be written");
    return 0;
} catch (const std::exception& error) {
    std::cerr << error.what() << '\n';
    return 2;
}
