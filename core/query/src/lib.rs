//! SQL over folders of JSON lines, CSV and Parquet files, and Delta tables, in the file system and in S3.
//!
//! ```no_run
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! use ottla_query::{Answer, Options, Progress, S3Options, Session};
//!
//! let options = Options { s3: S3Options::default(), memory_limit: 1 << 30, progress: Progress::none() };
//! let session = Session::new(options)?;
//! session.add_table(&"pin=lake/posts/cleaned/0a4e65e909bd.pin".parse()?).await?;
//! for statement in session.parse("select category, count(*) from pin group by category", None)? {
//!     if let Answer::Rows(mut rows) = session.run(&statement).await? {
//!         while let Some(batch) = rows.next().await? {
//!             println!("{} rows", batch.num_rows());
//!         }
//!     }
//! }
//! # Ok(())
//! # }
//! ```
//!
//! The engine is DataFusion; see its [SQL reference](https://datafusion.apache.org/user-guide/sql/). What is added here:
//! tables by location ([`TableLocation`]), columns of JSON from every row, states of Delta tables, `percentile_disc`,
//! errors that name the way out, and output for people and programs.

mod delta;
mod error;
mod json;
mod location;
mod output;
mod percentile_disc;
mod session;
mod store;

pub use location::{Kind, Place, TableLocation, Version};
pub use output::{Format, PrintError, print};
pub use session::{Answer, Options, Progress, Rows, Session, Statement, Step};
pub use store::S3Options;
