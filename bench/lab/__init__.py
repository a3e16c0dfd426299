"""The small world: generated text, a word-level tokenizer and a small Llama trained here from nothing."""
