"""Text corpora, tokenizers, and the streams a language model reads."""
