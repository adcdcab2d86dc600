//! Text encoders from disk: transformers' `CLIPTextModel` with its `CLIPTokenizer`.
//!
//! Two layouts of folders are known: that of a pipeline, with `text_encoder/` (`config.json`,
//! `model.safetensors`) beside `tokenizer/`, and that of a CLIP model, with all files together and the
//! image part's weights, which are not read.

use super::weights;
use crate::device::Device;
use crate::error::{Error, Result};
use crate::model::Scope;
use crate::model::clip::ClipText;
use crate::ops::Activation;
use crate::plan::{Kind, Options, ParamTable, Plan, Store};
use crate::tape::Tape;
use serde::Deserialize;
use std::collections::HashMap;
use std::path::Path;
use tokenizers::models::bpe::BPE;
use tokenizers::normalizers::{Lowercase, NFC, Replace, Sequence as Normalise};
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::pre_tokenizers::sequence::Sequence as Split;
use tokenizers::pre_tokenizers::split::{Split as ByPattern, SplitPattern};
use tokenizers::{AddedToken, NormalizerWrapper, PreTokenizerWrapper, SplitDelimiterBehavior};

const WEIGHTS: &str = "model.safetensors";
const START: &str = "<|startoftext|>";
const END: &str = "<|endoftext|>";
/// Texts encoded at once.
const BATCH: usize = 8;
/// What CLIP takes as one piece: contractions, words, single digits, runs of anything else.
const PIECES: &str = r"'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+";

/// A text encoder, ready to run.
pub struct TextEncoder {
    tokenizer: tokenizers::Tokenizer,
    model: ClipText,
    /// Ids of the first token, the last one and the padding.
    marks: [u32; 3],
    store: Store,
    plan: Plan,
}

impl std::fmt::Debug for TextEncoder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TextEncoder").field("model", &self.model).finish_non_exhaustive()
    }
}

/// `config.json`, with transformers' defaults of `CLIPTextConfig`.
#[derive(Debug, Deserialize)]
#[serde(default)]
struct Keys {
    model_type: String,
    hidden_act: String,
    hidden_size: usize,
    intermediate_size: usize,
    layer_norm_eps: f32,
    max_position_embeddings: usize,
    num_attention_heads: usize,
    num_hidden_layers: usize,
    vocab_size: usize,
    /// Of a whole CLIP model: the part that is the text's.
    text_config: Option<Box<Keys>>,
}

impl Default for Keys {
    fn default() -> Self {
        Keys {
            model_type: String::new(),
            hidden_act: "quick_gelu".into(),
            hidden_size: 512,
            intermediate_size: 2048,
            layer_norm_eps: 1e-5,
            max_position_embeddings: 77,
            num_attention_heads: 8,
            num_hidden_layers: 12,
            vocab_size: 49408,
            text_config: None,
        }
    }
}

impl TextEncoder {
    /// Reads the encoder in `folder` and compiles it for `device`.
    ///
    /// # Errors
    /// Exit code 4: files that are missing or damaged, another kind of model, weights that do not fit.
    pub fn open(folder: &Path, device: Box<dyn Device>) -> Result<Self> {
        let part = |name: &str| Some(folder.join(name)).filter(|dir| dir.is_dir());
        let own = part("text_encoder").unwrap_or_else(|| folder.into());
        let words = part("tokenizer").unwrap_or_else(|| own.clone());
        let model = sizes(&own.join("config.json"))?;
        let tokenizer = tokenizer(&words)?;
        let marks = marks(&tokenizer, &words)?;
        if let Some(id) = marks.iter().find(|&&id| id as usize >= model.vocabulary) {
            let why = format!("token {id} is not among the model's {}", model.vocabulary);
            return Err(Error::data("tokenizer and text encoder do not fit")
                .at_path(folder)
                .why(why));
        }
        let (mut tape, mut table) = (Tape::new(), ParamTable::default());
        let mut s = Scope::new(&mut tape, &mut table);
        let tokens = s.tape.input_idx("tokens", &[BATCH * model.length])?;
        let hidden = model.hidden(&mut s, tokens, BATCH)?;
        tape.output("hidden", hidden)?;
        let other = |name: &str| !name.starts_with("text_model.") || name.ends_with("position_ids");
        let weights = weights::read(&own.join(WEIGHTS), &table, other)?;
        let mut store = Store::new(device, table, 0)?;
        for (i, spec) in store.table().specs().to_vec().iter().enumerate() {
            store.write_param(Kind::Param, i, &weights[&spec.name].data)?;
        }
        let plan = Plan::compile(&mut store, &tape, &Options::default(), &mut |_, _| {})?;
        Ok(TextEncoder { tokenizer, model, marks, store, plan })
    }

    /// Tokens of a text, and the length of the vector of each.
    pub fn shape(&self) -> [usize; 2] {
        [self.model.length, self.model.width]
    }

    /// The tokens of a text: a start, the text as far as it fits, an end, padding. `CLIPTokenizer` with
    /// padding to the greatest length and truncation.
    ///
    /// # Errors
    /// A text that the tokenizer refuses.
    pub fn tokens(&self, text: &str) -> Result<Vec<u32>> {
        let pieces = self.tokenizer.encode_fast(text, false).map_err(|e| {
            Error::data("the text cannot be cut into tokens").at(format!("{text:?}")).why(e)
        })?;
        let [start, end, padding] = self.marks;
        let room = self.model.length.saturating_sub(2);
        let mut ids = vec![start];
        ids.extend(pieces.get_ids().iter().take(room));
        ids.push(end);
        ids.resize(self.model.length, padding);
        Ok(ids)
    }

    /// The last hidden state of every text, [texts, tokens, width].
    ///
    /// # Errors
    /// As [`tokens`](Self::tokens); a device that is lost.
    pub fn hidden(&mut self, texts: &[String]) -> Result<Vec<f32>> {
        let [length, width] = self.shape();
        let mut all = Vec::with_capacity(texts.len() * length * width);
        for chunk in texts.chunks(BATCH) {
            let mut ids = vec![];
            for i in 0..BATCH {
                ids.extend(self.tokens(&chunk[i.min(chunk.len() - 1)])?);
            }
            self.store.write_u32(self.plan.input("tokens")?, &ids)?;
            self.plan.run_lane(&mut self.store, 0, &Default::default())?;
            let hidden = self.store.read_f32(self.plan.output("hidden")?)?;
            all.extend_from_slice(&hidden[..chunk.len() * length * width]);
        }
        Ok(all)
    }

    /// What a denoiser is told of every text: its hidden states, each token's brought to length 1, as in
    /// VQ-Diffusion (2111.14822). [texts, tokens, width]
    ///
    /// # Errors
    /// As [`hidden`](Self::hidden).
    pub fn embed(&mut self, texts: &[String]) -> Result<Vec<f32>> {
        let mut all = self.hidden(texts)?;
        for token in all.chunks_exact_mut(self.model.width) {
            let norm = token.iter().map(|v| f64::from(*v).powi(2)).sum::<f64>().sqrt();
            token.iter_mut().for_each(|v| *v = (f64::from(*v) / norm) as f32);
        }
        Ok(all)
    }
}

fn sizes(path: &Path) -> Result<ClipText> {
    let text = std::fs::read_to_string(path).map_err(|e| {
        Error::data("no text encoder is there").at_path(path).why(e).help(
            "name the folder of a CLIP text model, or of a pipeline with text_encoder/ and tokenizer/",
        )
    })?;
    let all: Keys = serde_json::from_str(&text).map_err(|e| {
        Error::data("the text encoder's configuration is damaged").at_path(path).why(e)
    })?;
    let kind = all.model_type.clone();
    let keys = match all.text_config {
        Some(part) => *part,
        None => all,
    };
    if !["clip", "clip_text_model"].contains(&kind.as_str()) {
        return Err(Error::data(format!("a model of type {kind:?} is no CLIP text encoder"))
            .at_path(path)
            .help("use a CLIPTextModel or a CLIPModel, for example clip-vit-base-patch32"));
    }
    let activation = match keys.hidden_act.as_str() {
        "quick_gelu" => Activation::GeluSigmoid,
        "gelu" => Activation::Gelu,
        other => {
            return Err(Error::data(format!("the activation {other:?} is not known"))
                .at_path(path)
                .help("quick_gelu and gelu are"));
        }
    };
    let heads = keys.num_attention_heads;
    let sound = heads > 0
        && keys.hidden_size.is_multiple_of(heads)
        && keys.hidden_size > 0
        && keys.hidden_size / heads <= 128
        && (2..=4096).contains(&keys.max_position_embeddings)
        && keys.vocab_size > 0;
    if !sound {
        return Err(Error::data("these sizes are no CLIP text encoder's").at_path(path).why(
            format!(
                "width {}, {heads} heads, {} places, {} tokens",
                keys.hidden_size, keys.max_position_embeddings, keys.vocab_size
            ),
        ));
    }
    Ok(ClipText {
        vocabulary: keys.vocab_size,
        length: keys.max_position_embeddings,
        width: keys.hidden_size,
        heads,
        layers: keys.num_hidden_layers,
        hidden: keys.intermediate_size,
        activation,
        eps: keys.layer_norm_eps,
    })
}

/// Byte-level byte-pair encoding as `CLIPTokenizer` does it.
fn tokenizer(folder: &Path) -> Result<tokenizers::Tokenizer> {
    let damaged = |e: tokenizers::Error| {
        Error::data("the tokenizer cannot be read").at_path(folder).why(e).help(
            "it is made of vocab.json and merges.txt, as CLIPTokenizer.save_pretrained writes them",
        )
    };
    let file = |name: &str| folder.join(name).to_string_lossy().into_owned();
    let bpe = BPE::from_file(&file("vocab.json"), &file("merges.txt"))
        .unk_token(END.into())
        .continuing_subword_prefix(String::new())
        .end_of_word_suffix("</w>".into())
        .build()
        .map_err(damaged)?;
    let spaces =
        Replace::new(tokenizers::normalizers::replace::ReplacePattern::Regex(r"\s+".into()), " ")
            .map_err(damaged)?;
    let pattern = SplitPattern::Regex(PIECES.into());
    let pieces = ByPattern::new(pattern, SplitDelimiterBehavior::Removed, true).map_err(damaged)?;
    let bytes = ByteLevel::new(false, true, false);
    let mut tokenizer = tokenizers::Tokenizer::new(bpe);
    tokenizer
        .with_normalizer(Some(Normalise::new(vec![
            NormalizerWrapper::NFC(NFC),
            NormalizerWrapper::Replace(spaces),
            NormalizerWrapper::Lowercase(Lowercase),
        ])))
        .map_err(damaged)?;
    tokenizer.with_pre_tokenizer(Some(Split::new(vec![
        PreTokenizerWrapper::Split(pieces),
        PreTokenizerWrapper::ByteLevel(bytes),
    ])));
    let mark = |name: &str| AddedToken::from(name, true).normalized(true);
    tokenizer.add_special_tokens([mark(START), mark(END)]).map_err(damaged)?;
    Ok(tokenizer)
}

/// Start, end, padding. `special_tokens_map.json` may name another padding than the end.
fn marks(tokenizer: &tokenizers::Tokenizer, folder: &Path) -> Result<[u32; 3]> {
    let path = folder.join("special_tokens_map.json");
    let named: HashMap<String, serde_json::Value> = match std::fs::read_to_string(&path) {
        Ok(text) => serde_json::from_str(&text)
            .map_err(|e| Error::data("the tokenizer is damaged").at_path(&path).why(e))?,
        Err(_) => HashMap::new(),
    };
    let name = |key: &str, default: &str| {
        let value = named.get(key).map(|v| v.get("content").unwrap_or(v));
        value.and_then(|v| v.as_str()).unwrap_or(default).to_string()
    };
    let end = name("eos_token", END);
    let names = [name("bos_token", START), end.clone(), name("pad_token", &end)];
    let mut ids = [0; 3];
    for (id, name) in ids.iter_mut().zip(names) {
        *id = tokenizer.token_to_id(&name).ok_or_else(|| {
            Error::data(format!("the tokenizer has no {name}")).at_path(&folder.join("vocab.json"))
        })?;
    }
    Ok(ids)
}
