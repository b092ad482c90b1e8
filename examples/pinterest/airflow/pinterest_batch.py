"""Every day: the batch leg until it has caught up, then the ten questions over what it has cleaned.

Both tasks are commands, so a failed one is retried by running it again: the batch leg goes on where it stopped and writes
nothing twice, and the answers of a day appear as a whole folder or not at all.

Settings are Airflow Variables; an environment variable AIRFLOW_VAR_OTTLA_HOME sets the first of them, and so on:

  ottla_bin        the program                                       ottla, found in PATH
  ottla_home       folder with batch.toml and questions/             the folder above this file's
  ottla_pipeline   the pipeline to run                               <ottla_home>/batch.toml
  ottla_work       folder for state, lake and answers                $AIRFLOW_HOME/ottla
  ottla_tables     where the cleaned tables lie; {} is pin, geo, user  ottla-lake/posts/cleaned/0a4e65e909bd.{}
  ottla_query      more options of `ottla query`                     none; say --s3-endpoint http://minio:9000
  ottla_answers    where the answers of each day go                  <ottla_work>/answers
"""

import datetime
import os

from airflow import DAG

try:
    from airflow.providers.standard.operators.bash import BashOperator
except ImportError:  # Airflow 2 has it in its core.
    from airflow.operators.bash import BashOperator

HOME = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))


def setting(name, default):
    """A Variable, looked up when a task runs: this file is read every few seconds, and should not ask the database then."""
    return "{{ var.value.get('" + name + "', '" + default + "') }}"


ENVIRONMENT = {
    "OTTLA": setting("ottla_bin", "ottla"),
    "OTTLA_HOME": setting("ottla_home", HOME),
    "PIPELINE": setting("ottla_pipeline", ""),
    "WORK": setting("ottla_work", ""),
    "TABLES": setting("ottla_tables", "ottla-lake/posts/cleaned/0a4e65e909bd.{}"),
    "QUERY": setting("ottla_query", ""),
    "ANSWERS": setting("ottla_answers", ""),
    "DAY": "{{ ds }}",
}

# Where a folder was not named, it follows from the others. Relative paths in the pipeline begin in the work folder.
FOLDERS = """
set -euo pipefail
: "${WORK:=${AIRFLOW_HOME:-$HOME/airflow}/ottla}" "${PIPELINE:=$OTTLA_HOME/batch.toml}" "${ANSWERS:=$WORK/answers}"
mkdir -p "$WORK" "$ANSWERS"
cd "$WORK"
"""

# `exec`, so that a task that Airflow stops ends the program itself, in order.
BATCH = FOLDERS + """
exec "$OTTLA" run "$PIPELINE" --until caught-up
"""

QUESTIONS = FOLDERS + """
questions=$OTTLA_HOME/questions
new=$(mktemp -d "$ANSWERS/.$DAY.XXXXXX")
trap 'rm -rf "$new"' EXIT
options=(--format csv)
for table in pin geo user; do
    options+=(--table "$table=${TABLES/'{}'/$table}")
done
for question in "$questions"/[1-9]*.sql; do
    name=$(basename "$question" .sql)
    # shellcheck disable=SC2086 # QUERY holds several words, or none.
    "$OTTLA" query "${options[@]}" $QUERY -f "$questions/0-tables.sql" -f "$question" > "$new/$name.csv"
    echo "$name: $(wc -l < "$new/$name.csv") lines"
done
chmod 755 "$new"
rm -rf "$ANSWERS/$DAY"
mv "$new" "$ANSWERS/$DAY"
"""

with DAG(
    dag_id="pinterest_batch",
    description="Posts into the lake, then the ten questions",
    schedule="@daily",
    start_date=datetime.datetime(2024, 1, 1, tzinfo=datetime.timezone.utc),
    catchup=False,
    # One folder of state takes one run at a time.
    max_active_runs=1,
    default_args={
        "retries": 3,
        "retry_delay": datetime.timedelta(minutes=2),
        # What hangs for so long is stopped and tried again.
        "execution_timeout": datetime.timedelta(hours=6),
    },
    doc_md=__doc__,
    tags=["ottla"],
) as dag:
    batch = BashOperator(task_id="batch", bash_command=BATCH, env=ENVIRONMENT, append_env=True)
    questions = BashOperator(task_id="questions", bash_command=QUESTIONS, env=ENVIRONMENT, append_env=True)
    batch >> questions
