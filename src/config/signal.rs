//! The `[data.signal]` section: a named chain from radar signals to images, and changes of it.

use std::collections::BTreeSet;

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::{Map, Value};

use super::check::Violation;
use crate::data::Transform;
use crate::data::signal::presets;

/// A preset with its overrides: `preset = "glasgow"` and any key of [`Transform`].
///
/// It is written as the preset and what was set by hand, so that `--set data.signal.preset=NAME`
/// replaces the one and keeps the other, equal to the preset's or not.
#[derive(Debug, Clone, PartialEq)]
pub struct Signal {
    pub preset: String,
    pub transform: Transform,
    /// Keys that were set by hand.
    given: BTreeSet<String>,
}

impl Signal {
    /// A preset as it is, by name.
    pub fn preset(name: &str) -> Result<Self, String> {
        let transform = presets::preset(name).ok_or_else(|| {
            format!("no preset is called {name:?}: there are {}", presets::NAMES.join(", "))
        })?;
        Ok(Signal { preset: name.into(), transform, given: BTreeSet::new() })
    }

    /// The first key out of its range.
    pub fn check(&self) -> Result<(), Violation> {
        match self.transform.violation() {
            None => Ok(()),
            Some((key, what, help)) => {
                Err(Violation { key: format!("data.signal.{key}"), what, help: help.into() })
            }
        }
    }
}

fn object(transform: &Transform) -> Result<Map<String, Value>, serde_json::Error> {
    match serde_json::to_value(transform)? {
        Value::Object(map) => Ok(map),
        _ => Ok(Map::new()),
    }
}

impl Serialize for Signal {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        use serde::ser::Error as _;
        let base = Signal::preset(&self.preset).map_err(S::Error::custom)?;
        let base = object(&base.transform).map_err(S::Error::custom)?;
        let mut map = object(&self.transform).map_err(S::Error::custom)?;
        map.retain(|key, value| self.given.contains(key) || base.get(key) != Some(value));
        map.insert("preset".into(), Value::String(self.preset.clone()));
        map.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Signal {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mut given = Map::deserialize(deserializer)?;
        let name = match given.remove("preset") {
            None => "plain".to_string(),
            Some(Value::String(name)) => name,
            Some(other) => {
                return Err(D::Error::custom(format!("invalid type: {other}, expected a string")));
            }
        };
        let base = Signal::preset(&name).map_err(D::Error::custom)?;
        let mut map = object(&base.transform).map_err(D::Error::custom)?;
        let keys = given.keys().cloned().collect();
        map.extend(given);
        let transform = Transform::deserialize(Value::Object(map)).map_err(D::Error::custom)?;
        Ok(Signal { preset: name, transform, given: keys })
    }
}

#[cfg(test)]
mod tests {
    use crate::config::Config;

    fn sets(all: &[&str]) -> Result<Config, String> {
        let all: Vec<String> = all.iter().map(|s| s.to_string()).collect();
        Config::load(None, &all).map_err(|e| e.to_string())
    }

    /// A preset, overrides in any order, and the way through TOML.
    #[test]
    fn presets_and_overrides() {
        assert_eq!(Config::default().data.signal, None);
        let config = sets(&["data.signal.hop=12", "data.signal.preset=glasgow"]).unwrap();
        let signal = config.data.signal.clone().unwrap();
        assert_eq!((signal.transform.hop, signal.transform.prf), (12, 1000.0));
        assert_eq!(signal.transform.window_length, 200);
        let text = config.to_toml().unwrap();
        assert!(text.contains("preset = \"glasgow\"") && text.contains("hop = 12"), "{text}");
        assert!(!text.contains("window_length"), "{text}");
        assert_eq!(Config::parse("c", &text, &[]).unwrap(), config);
        // A value by hand that is the default's is by hand all the same.
        for order in [
            ["data.signal.hop=64", "data.signal.preset=glasgow"],
            ["data.signal.preset=glasgow", "data.signal.hop=64"],
        ] {
            let config = sets(&order).unwrap();
            assert_eq!(config.data.signal.as_ref().unwrap().transform.hop, 64, "{order:?}");
            let again = Config::parse("c", &config.to_toml().unwrap(), &[]).unwrap();
            assert_eq!(again, config);
        }
        // The preset is replaced, what was set by hand stays.
        let other = Config::parse("c", &text, &["data.signal.preset=ci4r".into()]).unwrap();
        let other = other.data.signal.unwrap().transform;
        assert_eq!((other.hop, other.nfft), (12, 4096));
    }

    #[test]
    fn wrong_keys_and_values_are_named() {
        for (set, parts) in [
            ("data.signal.preset=paris", &["no preset is called \"paris\"", "glasgow"][..]),
            ("data.signal.hopp=3", &["hopp"]),
            ("data.signal.hop=0", &["data.signal.hop", "0 is not from 1"]),
            ("data.signal.mti=fast", &["data.signal", "butterworth"]),
            ("data.augment.time_shift=2", &["data.augment.time_shift", "out of range"]),
            ("data.augment.flip=1", &["flip"]),
        ] {
            let error = sets(&[set]).unwrap_err();
            for part in parts {
                assert!(error.contains(part), "{set}: {error}\nlacks {part}");
            }
        }
    }
}
