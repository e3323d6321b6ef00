//! `deltamesh verify`: each view against its own SQL.

use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, Result};
use serde::Deserialize;

use crate::mesh::Mesh;
use crate::options::{Place, Verify};
use crate::output;

/// Every view is computed anew.
const VERIFY_WITHIN: Duration = Duration::from_secs(600);

/// The two differences of a view.
#[derive(Debug, Deserialize)]
struct Difference {
    view: String,
    /// Rows of the SQL that the view does not have.
    missing: u64,
    /// Rows of the view that the SQL does not have.
    extra: u64,
}

pub(crate) async fn run(place: &Place, verify: &Verify) -> Result<ExitCode> {
    let mesh = Mesh::find(place).await?;
    let answer = mesh.ask(&mesh.replica(&verify.replica)?, "verify", "", VERIFY_WITHIN).await?;
    let differences: Vec<Difference> =
        serde_json::from_slice(&answer).context("read the answer of the replica")?;
    let mut wrong = false;
    for Difference { view, missing, extra } in &differences {
        let equal = (*missing, *extra) == (0, 0);
        wrong |= !equal;
        if equal {
            output::line(&format!("{view}: equal to its SQL"))?;
        } else {
            output::line(&format!(
                "{view}: DIFFERS from its SQL: {missing} rows missing, {extra} rows extra"
            ))?;
        }
    }
    if differences.is_empty() {
        output::line("there are no views")?;
    }
    Ok(if wrong { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}
