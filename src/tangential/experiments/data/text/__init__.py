"""Text corpora, tokenizers (characters, words, subwords), and the streams of segments that a language model reads.

The memory of a model and its perplexity are not here; they belong to `nets` and `tasks`.
"""
