
// -- ask the model in this browser: it runs beside the page, in worker.js ------------------------------------------------

const UNSERVED = "This page needs a web server. Start one in its folder with: python -m http.server";
const waiting = new Map(); // number of a question -> what gets its answer
let questions = 0;
let worker = null;

try {
  worker = new Worker("worker.js", { type: "module" });
  worker.onmessage = ({ data }) => hear(data);
  worker.onerror = () => showProblem(UNSERVED);
} catch {
  showProblem(UNSERVED); // browsers start no worker for a page from a disk
}

function hear({ id, answer, error }) {
  if (!id) byId("loading").hidden = true;
  if (!id && error) showProblem(`The model cannot be opened here: ${error}`);
  const heard = waiting.get(id);
  waiting.delete(id);
  if (error) heard?.reject(new Error(error));
  else heard?.resolve(answer);
}

function asked(question, signal) {
  const id = ++questions;
  return new Promise((resolve, reject) => {
    if (!worker) throw new Error(UNSERVED);
    waiting.set(id, { resolve, reject });
    worker.postMessage({ id, ...question });
    signal.addEventListener("abort", () => {
      worker.postMessage({ id, kind: "cancel" });
      reject(signal.reason);
    });
  });
}

function predict(blob, signal) {
  return asked({ kind: "predict", blob, places }, signal);
}

function explainClass(index, _blob, signal) {
  return asked({ kind: "explain", index }, signal);
}
