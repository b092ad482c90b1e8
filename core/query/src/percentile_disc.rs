//! SQL's `percentile_disc`, which DataFusion lacks: the percentile that is one of the values.
//!
//! `percentile_disc(0.5) within group (order by x)` is the lower median, what Spark's `percentile_approx(x, 0.5)` gives;
//! DataFusion's own `percentile_cont(0.5)` is the exact one, the mean of the two middle values.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray as _, BooleanArray, RecordBatch, new_empty_array};
use arrow::compute::{SortOptions, concat, filter, is_not_null, sort_to_indices};
use arrow::datatypes::{DataType, Field, FieldRef, Schema};
use datafusion::common::utils::SingleRowListArrayBuilder;
use datafusion::common::{ScalarValue, exec_err, not_impl_err, plan_err};
use datafusion::error::Result;
use datafusion::logical_expr::function::{AccumulatorArgs, StateFieldsArgs};
use datafusion::logical_expr::utils::format_state_name;
use datafusion::logical_expr::{Accumulator, AggregateUDFImpl, ColumnarValue, Signature, Volatility};
use datafusion::physical_expr::PhysicalExpr;

/// The first value, in the order asked for, at or behind which lies the given share of all values that are not null
/// (SQL:2016, 10.9, inverse distribution functions).
#[derive(Debug, PartialEq, Eq, Hash)]
pub(crate) struct PercentileDisc {
    signature: Signature,
}

impl PercentileDisc {
    pub(crate) fn new() -> Self {
        Self { signature: Signature::any(2, Volatility::Immutable) }
    }
}

impl AggregateUDFImpl for PercentileDisc {
    fn name(&self) -> &str {
        "percentile_disc"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, types: &[DataType]) -> Result<DataType> {
        Ok(types[0].clone())
    }

    fn supports_within_group_clause(&self) -> bool {
        true
    }

    fn state_fields(&self, args: StateFieldsArgs<'_>) -> Result<Vec<FieldRef>> {
        let values = Field::new_list_field(args.input_fields[0].data_type().clone(), true);
        let name = format_state_name(args.name, "values");
        Ok(vec![Arc::new(Field::new(name, DataType::List(Arc::new(values)), true))])
    }

    fn accumulator(&self, args: AccumulatorArgs<'_>) -> Result<Box<dyn Accumulator>> {
        if args.is_distinct {
            return not_impl_err!("percentile_disc(DISTINCT ..)");
        }
        let descending = args.order_bys.first().is_some_and(|order| order.options.descending);
        Ok(Box::new(Values {
            share: share(&args.exprs[1])?,
            descending,
            data_type: args.expr_fields[0].data_type().clone(),
            arrays: Vec::new(),
        }))
    }
}

/// The first argument of the function.
fn share(expr: &Arc<dyn PhysicalExpr>) -> Result<f64> {
    let nothing = RecordBatch::new_empty(Arc::new(Schema::empty()));
    let Ok(ColumnarValue::Scalar(value)) = expr.evaluate(&nothing) else {
        return plan_err!("percentile_disc needs a constant share between 0 and 1, such as 0.5");
    };
    match value.cast_to(&DataType::Float64) {
        Ok(ScalarValue::Float64(Some(share))) if (0.0..=1.0).contains(&share) => Ok(share),
        _ => plan_err!("percentile_disc needs a share between 0 and 1, such as 0.5, found {value}"),
    }
}

/// The values of one group.
#[derive(Debug)]
struct Values {
    share: f64,
    descending: bool,
    data_type: DataType,
    arrays: Vec<ArrayRef>,
}

impl Values {
    fn add(&mut self, values: &ArrayRef) -> Result<()> {
        // Arrays of the type null say nothing about their validity.
        let known = match values.data_type() {
            DataType::Null => BooleanArray::from(vec![false; values.len()]),
            _ => is_not_null(values)?,
        };
        let values = filter(values, &known)?;
        if !values.is_empty() {
            self.arrays.push(values);
        }
        Ok(())
    }

    fn all(&self) -> Result<ArrayRef> {
        let arrays: Vec<&dyn Array> = self.arrays.iter().map(AsRef::as_ref).collect();
        if arrays.is_empty() { Ok(new_empty_array(&self.data_type)) } else { Ok(concat(&arrays)?) }
    }
}

impl Accumulator for Values {
    fn update_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        self.add(&values[0])
    }

    fn evaluate(&mut self) -> Result<ScalarValue> {
        let all = self.all()?;
        if all.is_empty() {
            return ScalarValue::try_from(&self.data_type);
        }
        let options = SortOptions { descending: self.descending, nulls_first: false };
        let order = sort_to_indices(&all, Some(options), None)?;
        // The share of the first n values is n / count, so the first n with a share of at least `share`, counted from 1.
        let nth = (self.share * all.len() as f64).ceil().max(1.0) as usize;
        match usize::try_from(order.value(nth.min(order.len()) - 1)) {
            Ok(at) => ScalarValue::try_from_array(&all, at),
            Err(_) => exec_err!("percentile_disc has too many values"),
        }
    }

    fn size(&self) -> usize {
        size_of_val(self) + self.arrays.iter().map(|array| array.get_array_memory_size()).sum::<usize>()
    }

    fn state(&mut self) -> Result<Vec<ScalarValue>> {
        Ok(vec![SingleRowListArrayBuilder::new(self.all()?).build_list_scalar()])
    }

    fn merge_batch(&mut self, states: &[ArrayRef]) -> Result<()> {
        for values in states[0].as_list::<i32>().iter().flatten() {
            self.add(&values)?;
        }
        Ok(())
    }
}
