
// -- ask the server: POST /predict and POST /explain --------------------------------------------------------------------

const here = location.origin + location.pathname; // no name and token, which an address may have and fetch refuses

async function post(path, blob, signal) {
  let response;
  try {
    response = await fetch(new URL(path, here), { method: "POST", body: blob, signal });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Error("The server does not answer. Does convolve serve still run?");
  }
  const said = await response.json().catch(() => ({ error: `The server answers ${response.status}.` }));
  if (!response.ok) throw new Error(said.error);
  return said;
}

function predict(blob, signal) {
  const top = target === "classes" ? `&top=${places}` : ""; // also those that the picture is not of
  return post(`predict?seen=1${top}`, blob, signal);
}

function explainClass(index, blob, signal) {
  return post(`explain?class=${index}`, blob, signal);
}

byId("curl").textContent = `curl --data-binary @image.png ${new URL("predict", here)}`;
