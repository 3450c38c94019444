// What runtimes_ask.py does, with onnxruntime-web; FOLDER also holds images.json, {shape, scores}, and images.raw.
//     NODE_PATH=.../node_modules node benchmarks/runtimes_ask.cjs FOLDER
const fs = require("node:fs");
const path = require("node:path");
const ort = require("onnxruntime-web");

async function main(folder) {
  console.log(JSON.stringify({ version: ort.env.versions.web }));
  const { shape, scores } = JSON.parse(fs.readFileSync(path.join(folder, "images.json")));
  const raw = fs.readFileSync(path.join(folder, "images.raw"));
  const values = new Float32Array(raw.buffer, raw.byteOffset, raw.length / 4);
  const session = await ort.InferenceSession.create(path.join(folder, "model.onnx"));
  const size = values.length / shape[0];
  const best = (row) => row.indexOf(row.reduce((one, other) => Math.max(one, other)));
  let [worst, same] = [0, 0];
  for (let i = 0; i < shape[0]; i++) {
    const images = new ort.Tensor("float32", values.slice(i * size, (i + 1) * size), [1, ...shape.slice(1)]);
    const got = [...(await session.run({ images })).logits.data];
    same += best(got) === best(scores[i]) ? 1 : 0;
    got.forEach((score, k) => { worst = Math.max(worst, Math.abs(score - scores[i][k])); });
  }
  const largest = scores.flat().reduce((one, other) => Math.max(one, Math.abs(other)), 0);
  console.log(JSON.stringify({ worst: worst / largest, same }));
}

main(process.argv[2]);
