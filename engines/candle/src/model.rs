//! The model: weights, tokenizer and chat template of one GGUF file, and a conversation as a sequence that grows token by token.

use std::{fs::File, io::BufReader, path::Path};

use anyhow::{Context, Result, bail};
use candle_core::{
    Device, Tensor,
    quantized::{gguf_file, tokenizer::TokenizerFromGguf},
};
use candle_transformers::{generation::LogitsProcessor, models::quantized_llama::ModelWeights};
use serde::Deserialize;
use tokenizers::Tokenizer;

/// A message of a chat.
#[derive(Clone, Debug, Deserialize, serde::Serialize)]
pub(crate) struct Message {
    /// `system`, `user` or `assistant`.
    pub(crate) role: String,
    /// The text.
    #[serde(default)]
    pub(crate) content: String,
}

/// How tokens are chosen.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sampling {
    /// 0 is greedy.
    pub(crate) temperature: f64,
    /// Nucleus sampling.
    pub(crate) top_p: Option<f64>,
    /// The seed of the dice.
    pub(crate) seed: u64,
    /// The most tokens to generate.
    pub(crate) max_tokens: usize,
}

/// A loaded model. Its tensors are shared by every sequence.
pub(crate) struct Model {
    weights: ModelWeights,
    tokenizer: Tokenizer,
    template: Option<String>,
    context_length: usize,
    end: u32,
}

impl Model {
    /// Reads a GGUF file.
    pub(crate) fn load(path: &Path) -> Result<Self> {
        let mut reader = BufReader::new(File::open(path)?);
        let content = gguf_file::Content::read(&mut reader).context("not a GGUF file")?;
        let text = |key: &str| content.metadata.get(key).and_then(|v| v.to_string().ok().cloned());
        let number = |key: &str| content.metadata.get(key).and_then(|v| v.to_u32().ok());
        if let Some(architecture) = text("general.architecture").filter(|a| a != "llama") {
            bail!("the architecture {architecture:?} is not served: only \"llama\" is");
        }
        let tokenizer = Tokenizer::from_gguf(&content).context("the file has no usable tokenizer")?;
        let template = text("tokenizer.chat_template");
        let context_length = number("llama.context_length").unwrap_or(2048) as usize;
        let end = number("tokenizer.ggml.eos_token_id").context("the file names no end-of-text token")?;
        let weights = ModelWeights::from_gguf(content, &mut reader, &Device::Cpu)?;
        // the rotary tables of candle's model end at 4,096 positions
        Ok(Self {
            weights,
            tokenizer,
            template,
            context_length: context_length.min(4096),
            end,
        })
    }

    /// The text that the model continues, for a chat.
    pub(crate) fn prompt(&self, messages: &[Message]) -> Result<String> {
        let Some(template) = &self.template else {
            let lines: Vec<String> = messages
                .iter()
                .map(|m| format!("{}: {}\n", m.role, m.content))
                .collect();
            return Ok(lines.concat() + "assistant:");
        };
        let mut environment = minijinja::Environment::new();
        environment
            .add_template("chat", template)
            .context("the model's chat template is not valid")?;
        let rendered = environment
            .get_template("chat")?
            .render(minijinja::context! { messages => messages, add_generation_prompt => true });
        rendered.context("the model's chat template refuses these messages")
    }

    /// Begins a sequence after `prompt`.
    pub(crate) fn begin(&self, prompt: &str, sampling: Sampling) -> Result<Sequence> {
        let encoding = self
            .tokenizer
            .encode(prompt, true)
            .map_err(|e| anyhow::anyhow!("the prompt cannot be tokenized: {e}"))?;
        let tokens = encoding.get_ids().to_vec();
        if tokens.is_empty() {
            bail!("the prompt is empty");
        }
        if tokens.len() + 1 >= self.context_length {
            bail!(
                "the prompt has {} tokens; this model takes at most {}",
                tokens.len(),
                self.context_length - 1
            );
        }
        let room = self.context_length - tokens.len();
        let temperature = (sampling.temperature > 0.0).then_some(sampling.temperature);
        Ok(Sequence {
            weights: self.weights.clone(),
            dice: LogitsProcessor::new(sampling.seed, temperature, sampling.top_p),
            prompt_tokens: tokens.len(),
            pending: tokens,
            position: 0,
            generated: Vec::new(),
            shown: 0,
            left: sampling.max_tokens.min(room),
        })
    }

    /// Generates one token of the sequence.
    pub(crate) fn step(&self, sequence: &mut Sequence) -> Result<Step> {
        if sequence.left == 0 {
            return Ok(Step::End(Finish::Length));
        }
        let input = Tensor::new(&*sequence.pending, &Device::Cpu)?.unsqueeze(0)?;
        let logits = sequence.weights.forward(&input, sequence.position)?.squeeze(0)?;
        sequence.position += sequence.pending.len();
        let token = sequence.dice.sample(&logits)?;
        sequence.left -= 1;
        if token == self.end {
            return Ok(Step::End(Finish::Stop));
        }
        sequence.pending = vec![token];
        sequence.generated.push(token);
        let text = self
            .tokenizer
            .decode(&sequence.generated, true)
            .map_err(|e| anyhow::anyhow!("a token cannot be shown: {e}"))?;
        // half of a character shows as U+FFFD until its other half comes
        if text.ends_with('\u{FFFD}') || !text.is_char_boundary(sequence.shown) {
            return Ok(Step::Text(String::new()));
        }
        let new = text.get(sequence.shown..).unwrap_or_default().to_owned();
        sequence.shown = text.len();
        Ok(Step::Text(new))
    }
}

/// A conversation that is being continued.
pub(crate) struct Sequence {
    weights: ModelWeights,
    dice: LogitsProcessor,
    /// Tokens in the prompt.
    pub(crate) prompt_tokens: usize,
    pending: Vec<u32>,
    position: usize,
    generated: Vec<u32>,
    shown: usize,
    left: usize,
}

impl Sequence {
    /// Tokens generated so far.
    pub(crate) fn completion_tokens(&self) -> usize {
        self.generated.len()
    }
}

/// Why a sequence ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Finish {
    /// The model had finished.
    Stop,
    /// `max_tokens` or the context was full.
    Length,
}

impl Finish {
    /// OpenAI's word.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Stop => "stop",
            Self::Length => "length",
        }
    }
}

/// What one step brought.
pub(crate) enum Step {
    /// More text, possibly none yet.
    Text(String),
    /// The end.
    End(Finish),
}
