// Embed the test images of a model folder with ONNX Runtime in Node, and write them for
// `cmemd verify MODEL --client client.json`. The graph resizes, so any crop goes in as it is.
//   npm install onnxruntime-node sharp
//   node examples/embed.mjs MODEL client.json
// onnxruntime-web in a browser takes the same tensors; a canvas gives the pixels there.
import { writeFileSync } from 'node:fs';
import ort from 'onnxruntime-node';
import sharp from 'sharp';

const [folder, output] = process.argv.slice(2);

async function embed(session, path) {
  const { data, info } = await sharp(path)
    .toColourspace('srgb').removeAlpha().raw().toBuffer({ resolveWithObject: true });
  const { width, height, channels } = info;
  const area = width * height;
  const planes = new Float32Array(3 * area); // 1, 3, height, width in [0, 1]
  for (let at = 0; at < area; at++) {
    for (let c = 0; c < 3; c++) {
      planes[c * area + at] = data[at * channels + Math.min(c, channels - 1)] / 255;
    }
  }
  const images = new ort.Tensor('float32', planes, [1, 3, height, width]);
  const { embeddings } = await session.run({ images });
  return Array.from(embeddings.data);
}

const found = {};
for (const modality of ['visible', 'thermal']) {
  const session = await ort.InferenceSession.create(`${folder}/model.${modality}.nchw-any.onnx`);
  found[modality] = await embed(session, `${folder}/test_${modality}.png`);
}
writeFileSync(output, JSON.stringify(found));
