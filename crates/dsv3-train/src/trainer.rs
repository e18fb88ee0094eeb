//! One step: forward, losses, gradients, update.

use burn::tensor::{Device, Tensor};
use burn_optim::{AdamW, AdamWConfig};
use dsv3_kernels::cross_entropy;
use dsv3_model::{Checkpoint, ForwardBatch, LoadOptions, ModelArgs, MtpModule, Transformer};
use dsv3_weights::{Layout, RopeScaling};
use serde::{Deserialize, Serialize};

use crate::balance::{RouterTrace, follow_load, shares};
use crate::data::{PackedBatch, PackedForward, Targets};
use crate::error::TrainError;
use crate::parameters::{Parameter, ParameterSet, Update};
use crate::storage::Storage;

/// Tokens of one cache block: what a sequence's last block wastes is bounded by it.
const BLOCK_SIZE: usize = 16;

/// How parameters are moved.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TrainOptions {
    /// AdamW's β₁.
    pub beta_1: f32,
    /// AdamW's β₂.
    pub beta_2: f32,
    /// AdamW's ε.
    pub epsilon: f32,
    /// AdamW's weight decay; norms have none.
    pub weight_decay: f32,
    /// The longest gradient that is taken as it is; a longer one is scaled down to it.
    pub clip_norm: f64,
    /// λ: weight of the MTP loss (report §2.2, §4.2: 0.3, then 0.1). 0 leaves the module out.
    pub mtp_weight: f32,
    /// α: weight of the balance loss within a sequence (report §4.2: 0.0001).
    pub balance_weight: f32,
    /// γ: how far a step moves a correction bias (report §4.2: 0.001, then 0).
    pub bias_speed: f32,
    /// Whether the graph computes with weights rounded to the checkpoint's formats, so that
    /// writing it costs nothing.
    pub round_weights: bool,
}

impl TrainOptions {
    /// For low-rank factors: nothing but the next token, no decay towards zero, since the factors
    /// begin there, and AdamW's usual β₂.
    pub fn lora() -> Self {
        TrainOptions {
            beta_2: 0.999,
            weight_decay: 0.0,
            mtp_weight: 0.0,
            balance_weight: 0.0,
            bias_speed: 0.0,
            round_weights: false,
            ..TrainOptions::default()
        }
    }
}

impl Default for TrainOptions {
    /// The report's (§4.2), but for rounding, which its framework does elsewhere.
    fn default() -> Self {
        TrainOptions {
            beta_1: 0.9,
            beta_2: 0.95,
            epsilon: 1e-8,
            weight_decay: 0.1,
            clip_norm: 1.0,
            mtp_weight: 0.3,
            balance_weight: 1e-4,
            bias_speed: 1e-3,
            round_weights: true,
        }
    }
}

/// What a step did.
#[derive(Clone, Debug, PartialEq)]
pub struct StepOutcome {
    /// Mean cross-entropy of the next token, in nats.
    pub loss: f64,
    /// Mean cross-entropy of the MTP module's token.
    pub mtp_loss: Option<f64>,
    /// The balance loss before its weight.
    pub balance_loss: Option<f64>,
    /// Length of the gradient before clipping.
    pub gradient_norm: f64,
    /// Tokens read.
    pub tokens: usize,
    /// Each expert's share of its layer's tokens; the MTP module's layer is the last.
    pub expert_load: Vec<Vec<f32>>,
}

/// A model in training.
pub struct Trainer {
    model: Transformer,
    mtp: Option<MtpModule>,
    parameters: ParameterSet,
    options: TrainOptions,
    decayed: AdamW,
    plain: AdamW,
    /// `rope_scaling` of the configuration.
    scaling: Option<RopeScaling>,
}

/// The losses of one pass, each the part of a mean that its rows make.
struct Losses {
    next: Tensor<1>,
    mtp: Option<Tensor<1>>,
    balance: Option<Tensor<1>>,
    load: Vec<Vec<u64>>,
}

/// Divisors of the means over all batches of a step.
#[derive(Clone, Copy)]
struct Totals {
    next: usize,
    mtp: usize,
    sequences: usize,
}

fn scalar(tensor: &Tensor<1>) -> Result<f64, TrainError> {
    let value = tensor.clone().try_into_scalar::<f32>();
    value
        .map(f64::from)
        .map_err(|error| TrainError::Device(error.to_string()))
}

impl Trainer {
    /// Train every parameter of `checkpoint`, on `device`.
    ///
    /// # Errors
    /// What is wrong with the checkpoint.
    pub fn new(
        checkpoint: &Checkpoint,
        options: TrainOptions,
        device: &Device,
    ) -> Result<Self, TrainError> {
        let load = LoadOptions::new(device.clone().autodiff());
        let model = Transformer::load(checkpoint, &load)?;
        let has_mtp = options.mtp_weight > 0.0 && checkpoint.args().num_nextn_predict_layers > 0;
        let mtp = has_mtp
            .then(|| MtpModule::load(checkpoint, &model))
            .transpose()?;
        let parameters = read_parameters(checkpoint, has_mtp, device)?;
        Self::assemble(model, mtp, parameters, options)
    }

    /// A trainer of `parameters` in `model`, whatever part of it they are.
    pub(crate) fn assemble(
        model: Transformer,
        mtp: Option<MtpModule>,
        parameters: ParameterSet,
        options: TrainOptions,
    ) -> Result<Self, TrainError> {
        let adamw = |decay: f32| {
            AdamWConfig::new()
                .with_beta_1(options.beta_1)
                .with_beta_2(options.beta_2)
                .with_epsilon(options.epsilon)
                .with_weight_decay(decay)
                .build()
        };
        let mut trainer = Trainer {
            scaling: model.args().rope_scaling,
            model,
            mtp,
            parameters,
            decayed: adamw(options.weight_decay),
            plain: adamw(0.0),
            options,
        };
        trainer.attach()?;
        Ok(trainer)
    }

    /// The configuration.
    pub fn args(&self) -> &ModelArgs {
        self.model.args()
    }

    /// The parameters.
    pub fn parameters(&self) -> &ParameterSet {
        &self.parameters
    }

    /// Change parameters from outside, as a resumed run does.
    ///
    /// # Errors
    /// What `change` returns, and [`TrainError::Device`].
    pub fn restore(
        &mut self,
        change: impl FnOnce(&mut ParameterSet) -> Result<(), TrainError>,
    ) -> Result<(), TrainError> {
        change(&mut self.parameters)?;
        self.attach()
    }

    /// How parameters are moved.
    pub fn options(&self) -> &TrainOptions {
        &self.options
    }

    /// Change what the loss is made of between steps (the report's λ and γ change late in training).
    pub fn set_weights(&mut self, mtp_weight: f32, bias_speed: f32) {
        if self.mtp.is_some() {
            self.options.mtp_weight = mtp_weight;
        }
        self.options.bias_speed = bias_speed;
    }

    /// Whether positions are stretched as the configuration says, or plain: a model is trained on
    /// the short context first (report §4.3).
    pub fn set_stretched(&mut self, stretched: bool) {
        let scaling = self.scaling.filter(|_| stretched);
        if scaling.is_some() != self.model.args().rope_scaling.is_some() {
            self.model.set_rope_scaling(scaling);
            if let Some(mtp) = &mut self.mtp {
                mtp.share(&self.model);
            }
        }
    }

    fn attach(&mut self) -> Result<(), TrainError> {
        let rounded = self.options.round_weights;
        self.parameters
            .attach(&mut self.model, self.mtp.as_mut(), rounded)
    }

    /// One step over `batches`, whose gradients are added up.
    ///
    /// # Errors
    /// [`TrainError::NotFinite`] when a loss or the gradient is no number; the parameters are then
    /// as they were. What the model refuses.
    pub fn step(
        &mut self,
        batches: &[PackedBatch],
        learning_rate: f64,
    ) -> Result<StepOutcome, TrainError> {
        let (mut outcome, load) = self.accumulate(batches)?;
        outcome.gradient_norm = self.parameters.gradient_norm()?;
        let finite = outcome.loss.is_finite() && outcome.gradient_norm.is_finite();
        if !finite {
            self.parameters.drop_gradients();
            return Err(TrainError::NotFinite {
                loss: outcome.loss,
                gradient_norm: outcome.gradient_norm,
            });
        }
        let factor = (self.options.clip_norm / outcome.gradient_norm.max(1e-12)).min(1.0);
        self.parameters
            .step(&self.decayed, &self.plain, learning_rate, factor);
        self.follow_load(&load)?;
        self.attach()?;
        outcome.expert_load = shares(&load);
        Ok(outcome)
    }

    /// What a step over `batches` would minimise, losses with their weights, and its gradient for
    /// each parameter by name. Nothing is moved.
    ///
    /// # Errors
    /// What the model refuses.
    #[allow(clippy::type_complexity)] // the objective; names and values
    pub fn gradients(
        &mut self,
        batches: &[PackedBatch],
    ) -> Result<(f64, Vec<(String, Vec<f32>)>), TrainError> {
        let (outcome, _) = self.accumulate(batches)?;
        let weighted = |loss: Option<f64>, weight: f32| loss.unwrap_or(0.0) * f64::from(weight);
        let objective = outcome.loss
            + weighted(outcome.mtp_loss, self.options.mtp_weight)
            + weighted(outcome.balance_loss, self.options.balance_weight);
        Ok((objective, self.parameters.take_gradients()?))
    }

    /// Forward and backward over all batches; the gradients are left with the parameters.
    fn accumulate(
        &mut self,
        batches: &[PackedBatch],
    ) -> Result<(StepOutcome, Vec<Vec<u64>>), TrainError> {
        let forward = |batch: &PackedBatch| batch.forward_batch(BLOCK_SIZE);
        let packed: Vec<PackedForward> = batches.iter().map(forward).collect();
        let totals = totals(&packed);
        let mut outcome = StepOutcome {
            loss: 0.0,
            mtp_loss: None,
            balance_loss: None,
            gradient_norm: 0.0,
            tokens: 0,
            expert_load: Vec::new(),
        };
        let mut load: Vec<Vec<u64>> = Vec::new();
        for packed in &packed {
            let losses = self.losses(packed, totals)?;
            outcome.tokens += packed.batch.tokens.len();
            outcome.loss += scalar(&losses.next)?;
            let mut total = losses.next;
            if let Some(mtp) = losses.mtp {
                *outcome.mtp_loss.get_or_insert(0.0) += scalar(&mtp)?;
                total = total + mtp.mul_scalar(self.options.mtp_weight);
            }
            if let Some(balance) = losses.balance {
                *outcome.balance_loss.get_or_insert(0.0) += scalar(&balance)?;
                total = total + balance.mul_scalar(self.options.balance_weight);
            }
            self.parameters.collect(&total.backward());
            add(&mut load, losses.load);
        }
        Ok((outcome, load))
    }

    /// Mean cross-entropy of the next token over `batches`, nothing moved.
    ///
    /// # Errors
    /// What the model refuses.
    pub fn evaluate(&self, batches: &[PackedBatch]) -> Result<f64, TrainError> {
        let packed: Vec<PackedForward> = batches
            .iter()
            .map(|b| b.forward_batch(BLOCK_SIZE))
            .collect();
        let total = totals(&packed).next;
        let mut loss = 0.0;
        for packed in &packed {
            let mut cache = self.model.new_cache(packed.blocks, BLOCK_SIZE);
            let out = self.model.forward(&packed.batch, &mut cache)?;
            loss += scalar(&mean(out.logits, &packed.next, total).detach())?;
        }
        Ok(loss)
    }

    fn losses(&self, packed: &PackedForward, totals: Totals) -> Result<Losses, TrainError> {
        let sequences = &packed.batch.sequences;
        let mut cache = self.model.new_cache(packed.blocks, BLOCK_SIZE);
        let mut trace = RouterTrace::default();
        let out = self
            .model
            .forward_traced(&packed.batch, &mut cache, &mut trace)?;
        let next = mean(out.logits, &packed.next, totals.next);
        let mut mtp = None;
        if let Some(module) = &self.mtp
            && self.options.mtp_weight > 0.0
            && !packed.mtp.rows.is_empty()
        {
            let batch = shifted(&packed.batch, &packed.mtp);
            let mut cache = module.new_cache(&self.model, packed.blocks, BLOCK_SIZE);
            let out = module.forward(&self.model, out.hidden, &batch, &mut cache, &mut trace)?;
            mtp = Some(mean(out.logits, &packed.mtp, totals.mtp));
        }
        let balance = trace.balance(sequences, totals.sequences)?;
        Ok(Losses {
            next,
            mtp,
            balance: balance.loss,
            load: balance.load,
        })
    }

    /// Correction biases after their layers' load; the trace has the layers in this order.
    fn follow_load(&mut self, load: &[Vec<u64>]) -> Result<(), TrainError> {
        let speed = self.options.bias_speed;
        let biases = self
            .parameters
            .iter_mut()
            .filter(|p| p.update == Update::Load);
        for (bias, load) in biases.zip(load) {
            let mut values = bias.values()?;
            follow_load(&mut values, load, speed);
            bias.restore(values, None);
        }
        Ok(())
    }
}

/// Cross-entropy of `logits` against `targets`, as part of a mean over `total`.
fn mean(logits: Tensor<2>, targets: &Targets, total: usize) -> Tensor<1> {
    cross_entropy(logits, targets.tokens.clone())
        .sum()
        .div_scalar(total.max(1) as f32)
}

fn totals(packed: &[PackedForward]) -> Totals {
    Totals {
        next: packed.iter().map(|p| p.next.rows.len()).sum(),
        mtp: packed.iter().map(|p| p.mtp.rows.len()).sum(),
        sequences: packed.iter().map(|p| p.batch.sequences.len()).sum(),
    }
}

/// The MTP module's input: at each row the token one place later. A sequence's last row has none;
/// it keeps its own, and nothing looks at what comes of it.
fn shifted(batch: &ForwardBatch, targets: &Targets) -> ForwardBatch {
    let mut shifted = batch.clone();
    for sequence in &batch.sequences {
        let rows = sequence.rows.clone();
        if rows.len() > 1 {
            shifted
                .tokens
                .copy_within(rows.start + 1..rows.end, rows.start);
        }
    }
    shifted.logit_rows.clone_from(&targets.rows);
    shifted
}

fn add(sum: &mut Vec<Vec<u64>>, load: Vec<Vec<u64>>) {
    if sum.is_empty() {
        *sum = load;
        return;
    }
    for (sum, load) in sum.iter_mut().zip(load) {
        sum.iter_mut().zip(load).for_each(|(sum, n)| *sum += n);
    }
}

/// Every parameter of the checkpoint that training moves. The MTP module's copies of embedding
/// and head are not among them.
fn read_parameters(
    checkpoint: &Checkpoint,
    with_mtp: bool,
    device: &Device,
) -> Result<ParameterSet, TrainError> {
    use dsv3_weights::Component::{MtpEmbedding, MtpLmHead};
    let args = checkpoint.args();
    let mut parameters = Vec::new();
    for spec in Layout::new(args).tensors() {
        let copy = matches!(spec.component, MtpEmbedding | MtpLmHead);
        if copy || (spec.component.is_mtp() && !with_mtp) {
            continue;
        }
        let storage = Storage::published(&spec, args);
        let (values, update) = match spec.shape[..] {
            [rows, columns] => (
                checkpoint.matrix_f32(&spec.name, [rows, columns])?,
                Update::Decayed,
            ),
            [len] if spec.name.ends_with("e_score_correction_bias") => {
                (checkpoint.vector(&spec.name, len)?, Update::Load)
            }
            _ => (
                checkpoint.vector(&spec.name, spec.shape.iter().product())?,
                Update::Plain,
            ),
        };
        parameters.push(Parameter::new(
            &spec.name,
            &spec.shape,
            storage,
            update,
            values,
            &device.clone().inner(),
        ));
    }
    Ok(ParameterSet::new(parameters, device))
}
