//! Logits to a token: temperature, top-k, top-p, penalties, seeds, log-probabilities
