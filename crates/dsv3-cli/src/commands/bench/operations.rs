//! How much arithmetic a pass is.

use dsv3_model::{ForwardBatch, ModelArgs};

/// Multiplications and additions of a pass: two for each weight that a token meets, and attention.
///
/// Of attention's two forms (DeepSeek-V2 report §2.1) the one with less is counted for each
/// sequence: keys and values expanded for each cached token, or queries and sums moved into the
/// latent space for each new one; then scores and sums over what a query may see. The head is counted
/// for the rows whose logits are wanted; norms, softmax and routing are not counted.
pub(super) fn of_pass(args: &ModelArgs, batch: &ForwardBatch) -> f64 {
    let heads = args.num_attention_heads;
    let (hidden, latent) = (args.hidden_size, args.kv_lora_rank);
    let (key, value) = (args.qk_head_dim(), args.v_head_dim);
    let query = match args.q_lora_rank {
        Some(rank) => rank * (hidden + heads * key),
        None => hidden * heads * key,
    };
    let projections = query + hidden * args.latent_dim() + heads * value * hidden;
    let layers = args.num_hidden_layers;
    let dense = args.first_k_dense_replace.min(layers);
    let experts = args.num_experts_per_tok + args.n_shared_experts;
    let sparse = 3 * experts * hidden * args.moe_intermediate_size + hidden * args.n_routed_experts;
    let of_token = layers * projections
        + dense * 3 * hidden * args.intermediate_size
        + (layers - dense) * sparse;

    let expansion = heads * (args.qk_nope_head_dim + value) * latent;
    let naive = heads * (key + value);
    let absorbed = heads * (2 * latent + args.qk_rope_head_dim);
    let attention: usize = batch
        .sequences
        .iter()
        .map(|sequence| {
            let (new, context) = (sequence.rows.len(), sequence.context);
            let seen = new * context - new * new.saturating_sub(1) / 2;
            let naive = context * expansion + seen * naive;
            naive.min(new * expansion + seen * absorbed)
        })
        .sum();
    let head = batch.logit_rows.len() * hidden * args.vocab_size;
    2.0 * (batch.tokens.len() as f64 * of_token as f64
        + layers as f64 * attention as f64
        + head as f64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use dsv3_model::SequenceSlice;

    /// Breaks with: a factor of two, the shared expert left out, pairs above the diagonal counted.
    #[test]
    fn of_v3_1() {
        let config = include_str!("../../../../../fixtures/config/config.json");
        let args = ModelArgs::from_json_bytes(config.as_bytes()).unwrap();
        let batch = |new: usize| ForwardBatch {
            tokens: vec![0; new],
            positions: (0..new as u32).collect(),
            sequences: vec![SequenceSlice {
                rows: 0..new,
                context: new,
                blocks: vec![0],
            }],
            logit_rows: vec![],
        };
        // Of 37.5 billion active parameters (report §4.2: 37) embedding and head have 0.93 each: neither
        // is among these. Attention has 11.41, dense MLPs 1.19, experts and routers 23.10.
        let one = of_pass(&args, &batch(1));
        assert!((one / 2e9 - 35.70).abs() < 0.01, "{one}");
        // Two tokens see three pairs.
        let pair = 2.0 * 61.0 * 128.0 * (192.0 + 128.0);
        assert_eq!(of_pass(&args, &batch(2)), 2.0 * one + pair);
    }
}
