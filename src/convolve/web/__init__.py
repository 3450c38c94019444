"""A folder with a model and a page that asks it in the browser: no server of ours, no network.

folder.py    what is written, and how it is compared with the model
runtime.py   onnxruntime-web: from npm, from a file, or referred to
asking.js    the page's own side; page.html, page.css and page.js are those of `convolve serve`
worker.js    the model beside the page
decode.js    a file -> pixels
fit.js       pixels -> what the model sees
"""
