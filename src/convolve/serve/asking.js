
// -- ask the server: POST /predict and POST /explain --------------------------------------------------------------------

const here = location.origin + location.pathname; // without user name and token, which an address may have and fetch refuses

async function post(path, blob, signal) {
  let response;
  try {
    response = await fetch(new URL(path, here), { method: "POST", body: blob, signal });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Error("The server does not answer. Is convolve serve still running?");
  }
  const said = await response.json().catch(() => ({ error: `The server answered with status ${response.status}.` }));
  if (!response.ok) throw new Error(said.error);
  return said;
}

function predict(blob, signal) {
  const top = target === "classes" ? `&top=${places}` : ""; // also classes that the picture does not have
  return post(`predict?seen=1${top}`, blob, signal);
}

function explainClass(index, blob, signal) {
  return post(`explain?class=${index}`, blob, signal);
}

byId("curl").textContent = `curl --data-binary @image.png ${new URL("predict", here)}`;
