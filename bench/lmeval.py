def evaluate_probe(model, tokenizer, probe, device):
    return {}
