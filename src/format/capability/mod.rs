//! The capabilities that some formats have and others lack, a trait for each. [`crate::Protocol`]
//! says which a format has.

mod audit_question;
mod directory;
mod document_publish;
mod evidence;
mod prefetch;
mod requirements;
mod streamed_index;
mod uploads;

pub use audit_question::AuditQuestion;
pub use directory::Directory;
pub use document_publish::{Amendment, DocumentPublish};
pub use evidence::{DocumentEvidence, Evidence, FactsPart, PathEvidence, PredictedFacts};
pub use prefetch::{Prefetch, PrefetchHint, PrefetchInput};
pub use requirements::{Need, Requirements};
pub use streamed_index::{StreamInput, StreamedIndex};
pub use uploads::Uploads;
pub(crate) use uploads::at_its_path;
