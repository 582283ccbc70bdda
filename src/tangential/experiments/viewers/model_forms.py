"""How a model is named on the command line, without the libraries that make one."""

FORMS = "torchvision:NAME, timm:NAME, transformers:NAME (or a folder with a config.json), or FILE.py:FUNCTION"
