"""A folder with a model and a page that runs it in the browser: no server of ours, no network.

folder.py    what is written, and its comparison with the model
runtime.py   onnxruntime-web: from npm, from a file, or as a link
asking.js    the page's own side; page.html, page.css and page.js are those of `convolve serve`
worker.js the model, in a worker beside the page
decode.js    a file -> pixels
fit.js       pixels -> the model's input
"""
