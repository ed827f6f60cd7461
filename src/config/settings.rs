//! Texts of the keys and where each comes from: the default, the file, or the environment.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

use toml::de::{DeTable, DeValue};

use crate::config::ConfigError;
use crate::config::keys::{KEYS, Key, VARIABLE_PREFIX, key_of, nearest};

/// The file that is read when no other is named, if it is there.
pub const DEFAULT_FILE: &str = "postrider.toml";

/// The variable that names the file, like `--config`.
pub const FILE_VARIABLE: &str = "POSTRIDER_CONFIG";

/// Largest configuration file that is read, in octets.
const MAX_FILE_SIZE: u64 = 1 << 20;

/// Where a setting comes from.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Origin {
    /// The list of keys.
    Default,
    /// A line of a file, counted from 1.
    File(PathBuf, usize),
    /// The key's environment variable.
    Variable,
}

/// One key with its text.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Setting {
    /// A name of [`KEYS`].
    pub name: &'static str,
    /// As it was written; lists have commas between their entries.
    pub value: String,
    /// Where that was.
    pub origin: Origin,
}

impl Setting {
    /// Where the setting stands, for the beginning of an error.
    pub fn place(&self) -> String {
        match &self.origin {
            Origin::Default => format!("`{}`", self.name),
            Origin::File(file, line) => format!("{} line {line}: `{}`", file.display(), self.name),
            Origin::Variable => format!("{VARIABLE_PREFIX}{}", self.name.to_ascii_uppercase()),
        }
    }
}

/// All keys, each with its text.
#[derive(Clone, Debug)]
pub struct Settings {
    settings: BTreeMap<&'static str, Setting>,
}

impl Settings {
    /// Reads the file (the named one, which must be there; else [`DEFAULT_FILE`], which may be
    /// missing) and the variables. Names that nobody knows are errors.
    pub fn gather(
        file: Option<&Path>,
        variables: impl Iterator<Item = (OsString, OsString)>,
    ) -> Result<Settings, ConfigError> {
        let mut problems = Vec::new();
        let mut settings = Settings { settings: BTreeMap::new() };
        if let Some((file, text)) = read_file(file)? {
            settings.take_file(&file, &text, &mut problems);
        }
        for (name, value) in variables {
            settings.take_variable(name, value, &mut problems);
        }
        let data = settings.settings.get("data").map(|setting| setting.value.clone());
        let data = data.or_else(|| key_of("data").map(|key| key.default.to_owned())).unwrap_or_default();
        for key in KEYS {
            let value = with_data(key.default, &data);
            let default = Setting { name: key.name, value, origin: Origin::Default };
            settings.settings.entry(key.name).or_insert(default);
        }
        if problems.is_empty() { Ok(settings) } else { Err(ConfigError { problems }) }
    }

    /// The setting of a key.
    pub fn get(&self, name: &str) -> Option<&Setting> {
        self.settings.get(name)
    }

    /// What a key would be without file and environment.
    pub fn default_of(&self, name: &str) -> Option<String> {
        let data = self.settings.get("data").map_or("", |setting| setting.value.as_str());
        key_of(name).map(|key| with_data(key.default, data))
    }

    /// All settings in the order of the documentation.
    pub fn iter(&self) -> impl Iterator<Item = &Setting> {
        KEYS.iter().filter_map(|key| self.settings.get(key.name))
    }

    fn take_file(&mut self, file: &Path, text: &str, problems: &mut Vec<String>) {
        let table = match DeTable::parse(text) {
            Ok(table) => table,
            Err(error) => {
                let line = error.span().map_or(1, |span| line_of(text, span.start));
                problems.push(format!("{} line {line}: {}", file.display(), error.message()));
                return;
            }
        };
        for (name, value) in table.get_ref() {
            let line = line_of(text, name.span().start);
            let name = name.get_ref().as_ref();
            let Some(key) = key_of(name) else {
                let place = format!("{} line {line}", file.display());
                problems.push(format!("{place}: unknown key `{name}`; did you mean `{}`?", nearest(name)));
                continue;
            };
            let origin = Origin::File(file.to_owned(), line);
            match plain_text(key, value.get_ref()) {
                Some(value) => self.set(Setting { name: key.name, value, origin }),
                None => {
                    let setting = Setting { name: key.name, value: String::new(), origin };
                    problems.push(format!("{}: give a text in quotes, such as \"…\"", setting.place()));
                }
            }
        }
    }

    fn take_variable(&mut self, name: OsString, value: OsString, problems: &mut Vec<String>) {
        let Some(name) = name.to_str().filter(|name| name.starts_with(VARIABLE_PREFIX)) else { return };
        let Some(value) = value.to_str() else {
            problems.push(format!("{name}: the value is no UTF-8 text"));
            return;
        };
        if name == FILE_VARIABLE || is_service_link(name) {
            return;
        }
        let lower = name.strip_prefix(VARIABLE_PREFIX).unwrap_or_default().to_ascii_lowercase();
        match key_of(&lower) {
            Some(key) => {
                self.set(Setting { name: key.name, value: value.to_owned(), origin: Origin::Variable });
            }
            None => {
                let meant = nearest(&lower).to_ascii_uppercase();
                problems.push(format!("unknown variable {name}; did you mean {VARIABLE_PREFIX}{meant}?"));
            }
        }
    }

    /// An empty text means "as if it were not there": compose files pass variables on that way.
    fn set(&mut self, setting: Setting) {
        if setting.value.trim().is_empty() {
            self.settings.remove(setting.name);
        } else {
            self.settings.insert(setting.name, setting);
        }
    }
}

/// The file's name and text.
fn read_file(file: Option<&Path>) -> Result<Option<(PathBuf, String)>, ConfigError> {
    let (path, must_be_there) = match file {
        Some(file) => (file, true),
        None => (Path::new(DEFAULT_FILE), false),
    };
    let failed = |why: String| ConfigError { problems: vec![format!("{}: {why}", path.display())] };
    match std::fs::metadata(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound && !must_be_there => return Ok(None),
        Err(error) => return Err(failed(format!("the configuration cannot be read: {error}"))),
        Ok(metadata) if metadata.len() > MAX_FILE_SIZE => {
            return Err(failed("this is no configuration: it is larger than 1 MiB".to_owned()));
        }
        Ok(_) => {}
    }
    let text = std::fs::read_to_string(path)
        .map_err(|error| failed(format!("the configuration cannot be read: {error}")))?;
    Ok(Some((path.to_owned(), text)))
}

/// A default with the data folder in its place.
fn with_data(default: &str, data: &str) -> String {
    default.replace("{data}", data.strip_suffix('/').filter(|data| !data.is_empty()).unwrap_or(data))
}

/// A text or a list of texts, or a number or truth value where the key takes one, as it would stand
/// in a variable.
fn plain_text(key: &Key, value: &DeValue<'_>) -> Option<String> {
    match value {
        DeValue::String(text) => Some(text.as_ref().to_owned()),
        DeValue::Integer(number) if key.takes_number() => Some(number.as_str().to_owned()),
        DeValue::Boolean(truth) if key.takes_truth() => Some(truth.to_string()),
        DeValue::Array(list) => {
            let entries: Option<Vec<&str>> = list.iter().map(|entry| entry.get_ref().as_str()).collect();
            entries.map(|entries| entries.join(","))
        }
        _ => None,
    }
}

/// The line of a place in a text, counted from 1.
fn line_of(text: &str, at: usize) -> usize {
    let before = text.as_bytes().get(..at).unwrap_or(text.as_bytes());
    before.iter().filter(|byte| **byte == b'\n').count() + 1
}

/// Kubernetes and Docker put variables for a service named `postrider…` into every container:
/// POSTRIDER_SERVICE_HOST, POSTRIDER_PORT, POSTRIDER_API_PORT_8080_TCP_ADDR. They are none of ours.
fn is_service_link(name: &str) -> bool {
    name.ends_with("_SERVICE_HOST")
        || name.contains("_SERVICE_PORT")
        || (name.ends_with("_PORT") && name != "POSTRIDER_MX_PORT")
        || name.split_once("_PORT_").is_some_and(|(_, rest)| rest.contains("_TCP") || rest.contains("_UDP"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gather(file: &str, variables: &[(&str, &str)]) -> Result<Settings, String> {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("postrider.toml");
        std::fs::write(&path, file).expect("written");
        let variables = variables.iter().map(|(name, value)| ((*name).into(), (*value).into()));
        Settings::gather(Some(&path), variables)
            .map_err(|error| error.to_string().replace(&format!("{}/", folder.path().display()), ""))
    }

    #[test]
    fn variables_override_the_file_and_the_file_the_default() {
        let file = "data = \"/file\"\nhttp_listen = \"1.1.1.1:1\"\nmx_port = 2525\ntrusted_proxies = [\"::1\", \"10.0.0.0/8\"]\n";
        let settings =
            gather(file, &[("POSTRIDER_HTTP_LISTEN", "2.2.2.2:2"), ("HOME", "/x")]).expect("legal");
        let value = |name| settings.get(name).map(|setting| setting.value.as_str()).unwrap_or_default();
        assert_eq!(value("http_listen"), "2.2.2.2:2");
        assert_eq!(value("data"), "/file");
        assert_eq!(value("blob_url"), "file:/file/blobs");
        assert_eq!(value("mx_port"), "2525");
        assert_eq!(value("trusted_proxies"), "::1,10.0.0.0/8");
        assert_eq!(value("dns"), "system");
    }

    #[test]
    fn unknown_names_are_errors_that_name_the_nearest() {
        let told = gather("\n\nhttp_listne = \"x\"\n", &[("POSTRIDER_DNSS", "x")]).expect_err("unknown");
        assert_eq!(
            told,
            "postrider.toml line 3: unknown key `http_listne`; did you mean `http_listen`?\n\
             unknown variable POSTRIDER_DNSS; did you mean POSTRIDER_DNS?"
        );
        let told = gather("[http]\nlisten = \"x\"\n", &[]).expect_err("a table");
        assert!(told.starts_with("postrider.toml line 1: unknown key `http`"), "{told}");
    }

    #[test]
    fn errors_of_the_file_name_their_line() {
        let told = gather("data = \"a\"\nrelay = \n", &[]).expect_err("no value");
        assert!(told.starts_with("postrider.toml line 2: "), "{told}");
        let told = gather("data = 1979-05-27\n", &[]).expect_err("a date");
        assert_eq!(told, "postrider.toml line 1: `data`: give a text in quotes, such as \"…\"");
        for wrong in ["data = 5\n", "relay = true\n", "max_upload_size = true\n", "dns = 53\n"] {
            let told = gather(wrong, &[]).expect_err(wrong);
            assert!(told.ends_with("give a text in quotes, such as \"…\""), "{told}");
        }
        for right in ["max_upload_size = 1000\n", "allow_plaintext_auth = true\n", "default_quota = 5\n"] {
            gather(right, &[]).expect(right);
        }
    }

    #[test]
    fn a_named_file_must_be_there() {
        let told = Settings::gather(Some(Path::new("/nonexistent/x.toml")), std::iter::empty())
            .expect_err("missing");
        assert!(told.to_string().starts_with("/nonexistent/x.toml: the configuration cannot be read"));
    }

    #[test]
    fn empty_variables_and_service_links_count_for_nothing() {
        let variables = [
            ("POSTRIDER_RELAY", ""),
            ("POSTRIDER_SERVICE_HOST", "10.0.0.1"),
            ("POSTRIDER_PORT", "tcp://10.0.0.1:8080"),
            ("POSTRIDER_PORT_8080_TCP_ADDR", "10.0.0.1"),
            ("POSTRIDER_CONFIG", "x.toml"),
        ];
        let settings = gather("relay = \"smtp://x\"\n", &variables).expect("legal");
        assert_eq!(settings.get("relay").map(|setting| setting.value.as_str()), Some(""));
    }
}
