// Embed a PPM image (P6, 8 bits) by model.onnx with OpenVINO, after the resize that the models were
// trained with: bicubic (a = -0.5), widened when it shrinks, columns first, grey levels in between.
// The result goes to standard output as JSON: the numbers of one embedding.
//   P=$(python -c "import openvino, os; print(os.path.dirname(openvino.__file__))")
//   g++ -std=c++17 -O2 embed.cpp -I$P/include -L$P/libs -l:$(basename $P/libs/libopenvino.so.*)
//   LD_LIBRARY_PATH=$P/libs ./a.out MODEL/model.onnx image.ppm HEIGHT WIDTH MODALITY
// MODALITY: 0 visible, 1 thermal. ONNX Runtime takes the same two tensors.
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <openvino/openvino.hpp>
#include <vector>

static double cubic(double x) {
  const double a = -0.5;
  x = std::fabs(x);
  if (x < 1) return ((a + 2) * x - (a + 3)) * x * x + 1;
  if (x < 2) return (((x - 5) * x + 8) * x - 4) * a;
  return 0;
}

// Resize one axis of rows x from x channels to rows x to x channels.
static std::vector<uint8_t> resize_axis(const std::vector<uint8_t>& in, int rows, int from, int to) {
  std::vector<uint8_t> out(size_t(rows) * to * 3);
  const double scale = double(from) / to, wide = std::max(scale, 1.0);
  for (int at = 0; at < to; at++) {
    const double centre = (at + 0.5) * scale;
    const int first = std::max(0, int(centre - 2 * wide + 0.5));
    const int last = std::min(from, int(centre + 2 * wide + 0.5));
    std::vector<double> weights;
    double sum = 0;
    for (int x = first; x < last; x++) {
      weights.push_back(cubic((x - centre + 0.5) / wide));
      sum += weights.back();
    }
    for (int row = 0; row < rows; row++)
      for (int c = 0; c < 3; c++) {
        double value = 0.5;
        for (int x = first; x < last; x++)
          value += weights[x - first] / sum * in[(size_t(row) * from + x) * 3 + c];
        out[(size_t(row) * to + at) * 3 + c] = uint8_t(std::clamp(std::floor(value), 0.0, 255.0));
      }
  }
  return out;
}

static std::vector<uint8_t> transposed(const std::vector<uint8_t>& in, int rows, int columns) {
  std::vector<uint8_t> out(in.size());
  for (int y = 0; y < rows; y++)
    for (int x = 0; x < columns; x++)
      for (int c = 0; c < 3; c++)
        out[(size_t(x) * rows + y) * 3 + c] = in[(size_t(y) * columns + x) * 3 + c];
  return out;
}

int main(int count, char** words) {
  if (count != 6) return 2;
  std::ifstream file(words[2], std::ios::binary);
  std::string magic;
  int width, height, levels;
  file >> magic >> width >> height >> levels;
  if (magic != "P6" || levels != 255) return 2;
  file.get();
  std::vector<uint8_t> pixels(size_t(width) * height * 3);
  file.read(reinterpret_cast<char*>(pixels.data()), std::streamsize(pixels.size()));
  const int tall = std::atoi(words[3]), broad = std::atoi(words[4]);
  pixels = resize_axis(pixels, height, width, broad);
  pixels = resize_axis(transposed(pixels, height, broad), broad, height, tall);
  pixels = transposed(pixels, broad, tall);

  ov::Core core;
  // OpenVINO's default of a CPU with bfloat16 is that, and off by some thousandths.
  auto model = core.compile_model(words[1], "CPU", ov::hint::inference_precision(ov::element::f32));
  ov::InferRequest request = model.create_infer_request();
  int64_t modality = std::atoi(words[5]);
  request.set_tensor("images", ov::Tensor(ov::element::u8, {1, size_t(tall), size_t(broad), 3},
                                          pixels.data()));
  request.set_tensor("modalities", ov::Tensor(ov::element::i64, {1}, &modality));
  request.infer();
  const ov::Tensor found = request.get_tensor("embeddings");
  for (size_t at = 0; at < found.get_size(); at++)
    std::printf("%s%.8g", at ? ", " : "[", found.data<float>()[at]);
  std::printf("]\n");
}
