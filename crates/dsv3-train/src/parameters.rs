//! The values that training moves: f32 masters, AdamW's moments, and the leaves of the graph.

use std::collections::HashMap;

use burn::tensor::{DType, Device, Tensor, TensorData};
use burn_optim::{AdamW, AdamWState, AdaptiveMomentumState, Optimizer};
use dsv3_kernels::{LowRank, Weight};
use dsv3_model::{MtpModule, ParameterMut, Transformer};
use rayon::prelude::*;

use crate::error::TrainError;
use crate::storage::Storage;

/// A parameter as a leaf of the graph.
#[derive(Clone, Debug)]
enum Leaf {
    Matrix(Tensor<2>),
    Vector(Tensor<1>),
}

impl Leaf {
    /// Values `shape` on `device`, of which the graph keeps the gradient.
    fn new(values: Vec<f32>, shape: &[usize], trained: bool, device: &Device) -> Self {
        match *shape {
            [rows, columns] => {
                let data = TensorData::new(values, [rows, columns]);
                let tensor = Tensor::from_data(data, (device, DType::F32));
                Leaf::Matrix(tensor.set_require_grad(trained))
            }
            _ => {
                let len = values.len();
                let tensor =
                    Tensor::from_data(TensorData::new(values, [len]), (device, DType::F32));
                Leaf::Vector(tensor.set_require_grad(trained))
            }
        }
    }

    /// The gradient, flat.
    fn gradient(&self, gradients: &burn::tensor::Gradients) -> Option<Tensor<1>> {
        match self {
            Leaf::Matrix(leaf) => leaf.grad(gradients).map(|g| {
                let [rows, columns] = g.dims();
                g.reshape([rows * columns])
            }),
            Leaf::Vector(leaf) => leaf.grad(gradients),
        }
    }
}

/// How a parameter is moved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Update {
    /// By its gradient, with weight decay.
    Decayed,
    /// By its gradient: norms.
    Plain,
    /// By its experts' load: the router's correction bias.
    Load,
}

/// One parameter.
pub struct Parameter {
    /// As in the checkpoint.
    pub name: String,
    /// `[out, in]` or `[n]`
    pub shape: Vec<usize>,
    /// How a checkpoint holds it.
    pub storage: Storage,
    /// How it is moved.
    pub update: Update,
    /// Its values in f32, flat.
    values: Tensor<1>,
    moments: Option<AdamWState<1>>,
    leaf: Option<Leaf>,
    gradient: Option<Tensor<1>>,
}

/// A parameter's AdamW state: steps taken, first and second moment.
#[derive(Clone, Debug, PartialEq)]
pub struct Moments {
    /// Steps taken.
    pub time: usize,
    /// First moment, flat.
    pub first: Vec<f32>,
    /// Second moment, flat.
    pub second: Vec<f32>,
}

fn host(tensor: &Tensor<1>) -> Result<Vec<f32>, TrainError> {
    tensor
        .to_data()
        .try_to_vec()
        .map_err(|error| TrainError::Device(error.to_string()))
}

impl Parameter {
    /// A parameter that nothing moved yet.
    pub fn new(
        name: &str,
        shape: &[usize],
        storage: Storage,
        update: Update,
        values: Vec<f32>,
        device: &Device,
    ) -> Self {
        Parameter {
            name: name.to_owned(),
            shape: shape.to_vec(),
            storage,
            update,
            values: flat(values, device),
            moments: None,
            leaf: None,
            gradient: None,
        }
    }

    /// Its values, flat.
    ///
    /// # Errors
    /// [`TrainError::Device`] when the device does not answer.
    pub fn values(&self) -> Result<Vec<f32>, TrainError> {
        host(&self.values)
    }

    /// AdamW's state, if a step was taken.
    ///
    /// # Errors
    /// [`TrainError::Device`] when the device does not answer.
    pub fn moments(&self) -> Result<Option<Moments>, TrainError> {
        let Some(AdamWState { momentum }) = &self.moments else {
            return Ok(None);
        };
        Ok(Some(Moments {
            time: momentum.time,
            first: host(&momentum.moment_1)?,
            second: host(&momentum.moment_2)?,
        }))
    }

    /// Put values and AdamW's state back.
    pub fn restore(&mut self, values: Vec<f32>, moments: Option<Moments>) {
        let device = self.values.device();
        self.values = flat(values, &device);
        self.moments = moments.map(|m| {
            AdamWState::new(AdaptiveMomentumState::new(
                m.time,
                flat(m.first, &device),
                flat(m.second, &device),
            ))
        });
    }
}

fn flat(values: Vec<f32>, device: &Device) -> Tensor<1> {
    let len = values.len();
    Tensor::from_data(TensorData::new(values, [len]), (device, DType::F32))
}

/// Two parameters that are the factors of a weight that is not one itself.
#[derive(Clone, Copy, Debug)]
struct Factors {
    a: usize,
    b: usize,
    scale: f32,
}

/// All parameters of a run, in the order of the checkpoint.
pub struct ParameterSet {
    list: Vec<Parameter>,
    index: HashMap<String, usize>,
    /// By the weight's name.
    factors: HashMap<String, Factors>,
    /// Where the graph runs: an autodiff device.
    device: Device,
}

impl ParameterSet {
    /// `parameters`, for a graph on `device`.
    pub fn new(parameters: Vec<Parameter>, device: &Device) -> Self {
        let names = parameters.iter().enumerate();
        ParameterSet {
            index: names.map(|(i, p)| (p.name.clone(), i)).collect(),
            list: parameters,
            factors: HashMap::new(),
            device: device.clone().autodiff(),
        }
    }

    /// Two more parameters: the factors A and B of the weight `name`, whose product counts `scale`
    /// times. The weight itself stays frozen in whatever format the model holds it.
    pub fn add_factors(&mut self, name: &str, [a, b]: [Parameter; 2], scale: f32) {
        let first = self.list.len();
        for (i, parameter) in [a, b].into_iter().enumerate() {
            self.index.insert(parameter.name.clone(), first + i);
            self.list.push(parameter);
        }
        let factors = Factors {
            a: first,
            b: first + 1,
            scale,
        };
        self.factors.insert(name.to_owned(), factors);
    }

    /// The weights that have factors: name, A and B.
    pub fn factors(&self) -> impl Iterator<Item = (&str, &Parameter, &Parameter)> {
        self.factors.iter().filter_map(|(name, factors)| {
            let (a, b) = (self.list.get(factors.a)?, self.list.get(factors.b)?);
            Some((name.as_str(), a, b))
        })
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = &Parameter> {
        self.list.iter()
    }

    /// All of them, to be changed.
    pub fn iter_mut(&mut self) -> impl Iterator<Item = &mut Parameter> {
        self.list.iter_mut()
    }

    /// The one of this name.
    pub fn get(&self, name: &str) -> Option<&Parameter> {
        self.list.get(*self.index.get(name)?)
    }

    /// The one of this name, to be changed.
    pub fn get_mut(&mut self, name: &str) -> Option<&mut Parameter> {
        self.list.get_mut(*self.index.get(name)?)
    }

    /// Values that are moved.
    pub fn count(&self) -> usize {
        self.list
            .iter()
            .map(|p| p.shape.iter().product::<usize>())
            .sum()
    }

    /// Give the graph its leaves: the masters' values, rounded to what a checkpoint holds if
    /// `rounded` (the gradient then passes straight through the rounding).
    ///
    /// # Errors
    /// [`TrainError::Device`] when the device does not answer.
    pub fn attach(
        &mut self,
        model: &mut Transformer,
        mtp: Option<&mut MtpModule>,
        rounded: bool,
    ) -> Result<(), TrainError> {
        let device = &self.device;
        self.list
            .par_iter_mut()
            .try_for_each(|p| -> Result<(), TrainError> {
                let mut values = host(&p.values)?;
                if rounded {
                    p.storage.round(&mut values, &p.shape)?;
                }
                let trained = p.update != Update::Load;
                p.leaf = Some(Leaf::new(values, &p.shape, trained, device));
                Ok(())
            })?;
        let (list, index) = (&self.list, &self.index);
        let mut put = |name: &str, parameter: ParameterMut<'_>| {
            let leaf = index.get(name).and_then(|i| list.get(*i));
            match (parameter, leaf.and_then(|p| p.leaf.clone())) {
                (ParameterMut::Matrix(weight), Some(Leaf::Matrix(leaf))) => {
                    *weight = Weight::plain(leaf);
                }
                (ParameterMut::Vector(vector), Some(Leaf::Vector(leaf))) => *vector = leaf,
                (ParameterMut::Embedding(table), Some(Leaf::Matrix(leaf))) => table.set_table(leaf),
                _ => {}
            }
        };
        model.visit_parameters(&mut put);
        let leaf = |i: usize| match list.get(i)?.leaf.clone()? {
            Leaf::Matrix(leaf) => Some(leaf),
            Leaf::Vector(_) => None,
        };
        model.adapt(&mut |name| {
            let Factors { a, b, scale } = *self.factors.get(name)?;
            let (a, b) = (leaf(a)?, leaf(b)?);
            Some(LowRank { a, b, scale })
        })?;
        if let Some(mtp) = mtp {
            mtp.visit_parameters(model, &mut put);
            mtp.share(model);
        }
        Ok(())
    }

    /// Add the leaves' gradients to those of earlier batches of the step.
    pub fn collect(&mut self, gradients: &burn::tensor::Gradients) {
        for parameter in &mut self.list {
            let Some(new) = parameter.leaf.as_ref().and_then(|l| l.gradient(gradients)) else {
                continue;
            };
            parameter.gradient = Some(match parameter.gradient.take() {
                Some(sum) => sum + new,
                None => new,
            });
        }
    }

    /// The length of all gradients as one vector.
    ///
    /// # Errors
    /// [`TrainError::Device`] when the device does not answer.
    pub fn gradient_norm(&self) -> Result<f64, TrainError> {
        let squares = self.list.par_iter().filter_map(|p| p.gradient.as_ref());
        let squares: Vec<f64> = squares
            .map(|g| {
                let sum = (g.clone() * g.clone()).sum();
                sum.try_into_scalar::<f32>()
                    .map(f64::from)
                    .map_err(|error| TrainError::Device(error.to_string()))
            })
            .collect::<Result<_, _>>()?;
        Ok(squares.iter().sum::<f64>().sqrt())
    }

    /// Take one step of AdamW with the gradients times `factor`, and forget them.
    pub fn step(&mut self, decayed: &AdamW, plain: &AdamW, learning_rate: f64, factor: f64) {
        self.list.par_iter_mut().for_each(|p| {
            let Some(gradient) = p.gradient.take() else {
                return;
            };
            let gradient = match factor == 1.0 {
                true => gradient,
                false => gradient.mul_scalar(factor as f32),
            };
            let optimizer = match p.update {
                Update::Decayed => decayed,
                Update::Plain => plain,
                Update::Load => return,
            };
            let (values, moments) =
                optimizer.step(learning_rate, p.values.clone(), gradient, p.moments.take());
            p.values = values;
            p.moments = moments;
        });
    }

    /// The gradients that there are, by name, flat; they are forgotten here.
    ///
    /// # Errors
    /// [`TrainError::Device`] when the device does not answer.
    pub fn take_gradients(&mut self) -> Result<Vec<(String, Vec<f32>)>, TrainError> {
        let mut gradients = Vec::new();
        for parameter in &mut self.list {
            if let Some(gradient) = parameter.gradient.take() {
                gradients.push((parameter.name.clone(), host(&gradient)?));
            }
        }
        Ok(gradients)
    }

    /// Forget the gradients: the step is not to be taken.
    pub fn drop_gradients(&mut self) {
        self.list.iter_mut().for_each(|p| p.gradient = None);
    }
}
