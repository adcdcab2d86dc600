//! Denoisers follow the embeddings they are given.

use crate::device;
use crate::rig::ok;
use std::f64::consts::LN_2;
use vqforge::config::{Conditioning, Denoiser, DenoiserKind, Train};
use vqforge::kernels::StepScalars;
use vqforge::model::Scope;
use vqforge::model::denoiser::{self, CONTEXT, Context, DROPPED, Grid, TIME};
use vqforge::ops;
use vqforge::plan::{Options, ParamTable, Plan, Store};
use vqforge::tape::{Act, Tape};
use vqforge::train::optimiser;

const BATCH: usize = 8;
const STEPS: u64 = 150;
/// The embedding of class c is vector c of two, for one token, or for both of two.
const WIDTH: usize = 2;

/// Nats of every token [batch, tokens] of the input "codes" when all of them are masked, and their mean.
fn record(s: &mut Scope<'_>, config: &Denoiser, grid: Grid) -> (Act, Act) {
    let n = BATCH * grid.tokens();
    let codes = ok(s.tape.input_idx("codes", &[n]));
    let masked = ok(s.tape.constant_idx(&[n], vec![grid.codes as u32; n]));
    // Nothing but the embedding tells the samples apart.
    let class = ok(s.tape.constant_idx(&[BATCH], vec![0; BATCH]));
    let logits = ok(denoiser::logits(s, config, grid, BATCH, masked, class));
    let weight = ok(s.tape.constant(&[n], vec![1.0; n]));
    ok(ops::cross_entropy(s.tape, logits, codes, weight, 1.0 / n as f32))
}

struct Model {
    grid: Grid,
    store: Store,
    plan: Plan,
    evaluation: Plan,
}

impl Model {
    fn new(config: &Denoiser, grid: Grid) -> Self {
        let (mut tape, mut table) = (Tape::new(), ParamTable::default());
        let (loss, _) = record(&mut Scope::new(&mut tape, &mut table), config, grid);
        ok(tape.report("loss", loss));
        ok(tape.backward(&[(loss, 1.0)]));
        let train = Train { lr: 1e-2, warmup: 0, ..Train::default() };
        let options = Options { optimiser: Some(optimiser(&train)), ..Options::default() };
        let mut store = ok(Store::new(device::cpu(0), table.clone(), 3));
        let plan = ok(Plan::compile(&mut store, &tape, &options, &mut |_, _| {}));
        let mut tape = Tape::new();
        let (_, per_token) = record(&mut Scope::new(&mut tape, &mut table), config, grid);
        ok(tape.output("nats", per_token));
        let evaluation = ok(Plan::compile(&mut store, &tape, &Options::default(), &mut |_, _| {}));
        Model { grid, store, plan, evaluation }
    }

    /// Sample b is of class b mod 2, whose codes are all 3 or all 1. `told`: the class its embedding says,
    /// or none.
    fn feed(&mut self, training: bool, told: impl Fn(usize) -> Option<usize>) {
        let plan = if training { &self.plan } else { &self.evaluation };
        let (grid, store) = (self.grid, &mut self.store);
        let codes: Vec<u32> =
            (0..BATCH * grid.tokens()).map(|i| [3, 1][i / grid.tokens() % 2]).collect();
        ok(store.write_u32(ok(plan.input("codes")), &codes));
        let tokens = grid.context.expect("a context").tokens;
        let mut context = vec![0.0; BATCH * tokens * WIDTH];
        let mut dropped = vec![0.0; BATCH];
        for b in 0..BATCH {
            match told(b) {
                Some(class) => {
                    (0..tokens).for_each(|t| context[(b * tokens + t) * WIDTH + class] = 1.0);
                }
                None => dropped[b] = 1.0,
            }
        }
        ok(store.write_f32(ok(plan.input(CONTEXT)), &context));
        ok(store.write_f32(ok(plan.input(DROPPED)), &dropped));
        if grid.times > 0 {
            ok(store.write_u32(ok(plan.input(TIME)), &[1; BATCH]));
        }
    }

    /// Nats a token.
    fn nats(&mut self, told: impl Fn(usize) -> Option<usize>) -> f64 {
        self.feed(false, told);
        ok(self.evaluation.run_lane(&mut self.store, 0, &StepScalars::default()));
        let nats = ok(self.store.read_f32(ok(self.evaluation.output("nats"))));
        nats.iter().map(|&v| f64::from(v)).sum::<f64>() / nats.len() as f64
    }
}

/// Two classes of equal share whose codes differ everywhere. Who knows the class needs no information; who
/// does not needs ln 2 a token at least, on average over the classes (Jensen); and who is told wrongly,
/// and needed `e` on average when told rightly, now needs -ln(1 - exp(-e)) or more.
#[test]
fn denoisers_learn_from_embeddings() {
    for (kind, conditioning, times) in [
        (DenoiserKind::Adaptive, Conditioning::Pooled, 0),
        (DenoiserKind::Modern, Conditioning::Pooled, 0),
        (DenoiserKind::Modern, Conditioning::Cross, 0),
        (DenoiserKind::VqDiffusion, Conditioning::Pooled, 3),
        (DenoiserKind::VqDiffusion, Conditioning::Cross, 3),
    ] {
        let what = format!("{kind:?} {conditioning:?}");
        let tokens = if conditioning == Conditioning::Cross { 2 } else { 1 };
        let context = Some(Context { tokens, width: WIDTH });
        let grid = Grid { rows: 2, cols: 2, codes: 4, classes: 0, times, context };
        let (layers, width, heads) = (1, 16, 2);
        let config = Denoiser { kind, conditioning, layers, width, heads, ..Denoiser::default() };
        let mut model = Model::new(&config, grid);
        for step in 0..STEPS {
            // A quarter is dropped, of either class alike.
            let drop = |b: usize| (b / 2 + step as usize).is_multiple_of(4);
            model.feed(true, |b| (!drop(b)).then_some(b % 2));
            let scalars = StepScalars { step: step as u32, lr: 1e-2, ..StepScalars::default() };
            ok(model.plan.run_lane(&mut model.store, 0, &scalars));
        }
        let right = model.nats(|b| Some(b % 2));
        let none = model.nats(|_| None);
        let wrong = model.nats(|b| Some(1 - b % 2));
        println!(
            "{what}: {right:.4} nats a token told rightly, {none:.4} untold, {wrong:.4} wrongly"
        );
        assert!(right < 0.1 * LN_2, "{what}: {right}");
        assert!((0.999 * LN_2..2.0 * LN_2).contains(&none), "{what}: {none}");
        assert!(wrong > -(1.0 - (-right).exp()).ln(), "{what}: {wrong}");
    }
}
