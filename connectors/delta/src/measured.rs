//! The way from texts to columns by itself, for the benches of this crate.

use arrow::array::RecordBatch;
use ottla_api::prelude::*;

use crate::columns::Columns;
use crate::schema::parse_ddl;

/// Columns that are filled, as a table of the sink fills them.
#[derive(Debug)]
pub struct Rows(Columns);

impl Rows {
    /// No rows yet. `ddl` are the columns, as in the option `schema`.
    ///
    /// # Errors
    ///
    /// `Config` for columns that the option would not take.
    pub fn new(ddl: &str) -> Result<Self> {
        Ok(Self(Columns::new(&parse_ddl(ddl).map_err(Error::config)?, true)))
    }

    /// Appends a record that comes as compact JSON text.
    ///
    /// # Errors
    ///
    /// `PoisonRecord` for a record that does not fit.
    pub fn push_text(&mut self, text: &[u8]) -> Result<()> {
        self.0.append_text(text)
    }

    /// Appends a record that somebody has decoded.
    ///
    /// # Errors
    ///
    /// `PoisonRecord` for a record that does not fit.
    pub fn push_value(&mut self, value: &Value) -> Result<()> {
        self.0.append(None, value)
    }

    /// The rows since the last call.
    ///
    /// # Errors
    ///
    /// `Fatal` where the columns make no batch, which is a mistake in this crate.
    pub fn finish(&mut self) -> Result<RecordBatch> {
        self.0.finish(true)
    }
}
