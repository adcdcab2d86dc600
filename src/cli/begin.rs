//! What every run leaves in its folder and its checkpoints before its first step, so that it can be
//! continued bit for bit, or else with a word about what is no longer the same.

use std::io::Write;
use vqforge::data::Dataset;
use vqforge::data::atomic::write_atomically;
use vqforge::device::Device;
use vqforge::error::Result;
use vqforge::train::codes::fingerprint;
use vqforge::train::{Console, Job, RunFolder, Session, Snapshot, choices, resume};

/// The data of a run: what they are called and what they are.
#[derive(Debug, Clone)]
pub struct Origin {
    data: String,
    hash: String,
}

impl Origin {
    pub fn of(data: String, images: &Dataset) -> Self {
        Origin { data, hash: fingerprint(images) }
    }

    /// Facts that a run's numbers depend on, other than its settings: the name in the checkpoint, the
    /// value, what to say of another one.
    fn facts(&self, session: &Session) -> [(&'static str, String, &'static str); 3] {
        [
            ("data_hash", self.hash.clone(), "the data differ"),
            ("plan_hash", session.plan.hash.clone(), "the step is compiled otherwise than before"),
            ("device", identity(&*session.store.device), "the device or its driver is another"),
        ]
    }

    /// Says which facts are not those of the checkpoint.
    pub fn compare(&self, session: &Session, snapshot: &Snapshot, console: &mut Console) {
        let facts = self.facts(session);
        let facts = facts.each_ref().map(|(key, value, what)| (*key, value.as_str(), *what));
        for line in resume::facts(snapshot, &facts) {
            console.line(&line);
        }
    }
}

/// The device without its threads, of which nothing depends.
pub(super) fn identity(device: &dyn Device) -> String {
    match device.host_threads() {
        Some(_) => device.kind().into(),
        None => format!("{}, {}", device.describe(), device.driver()),
    }
}

/// Puts the session, at its start or at `snapshot`, into its run folder. From here on files are
/// written.
pub fn begin(
    session: &mut Session,
    job: &dyn Job,
    folder: RunFolder,
    origin: &Origin,
    snapshot: Option<&Snapshot>,
    console: &mut Console,
) -> Result<()> {
    let facts = origin.facts(session).map(|(key, value, _)| (key.to_string(), value));
    session.notes = facts.into();
    session.notes.insert("data".into(), origin.data.clone());
    let folder = session.folder.insert(folder);
    match snapshot {
        Some(snapshot) => session.restore(snapshot, job.kind())?,
        None => {
            // A process killed before its first checkpoint may have left some, and a run that begins
            // anew under a remedy has more.
            folder.begin_anew()?;
            choices::forget(folder)?;
        }
    }
    if let Some(folder) = &session.folder {
        folder.describe(&session.config, &session.store.device.describe(), console)?;
        let dump = std::mem::take(&mut session.plan.dump);
        write_atomically(&folder.file("plan.txt"), |w| w.write_all(dump.as_bytes()))?;
    }
    session.keep_choices(job)
}
