#!/bin/sh
# Score a date on Dataproc Serverless, yesterday (UTC) by default: submit.sh [DATE]
set -eu
case ${1:-} in
-*)
    sed -n '2s/^# //p' "$0"
    exit 2
    ;;
esac
gcloud dataproc batches submit pyspark gs://example-scoring/lakehouse/score.py \
    --region=europe-west1 \
    --version=3.0 \
    --container-image=europe-west1-docker.pkg.dev/example-project/scoring/lakehouse:0.1.0 \
    --archives=gs://example-scoring/lakehouse/conf.tar.gz#conf \
    --service-account=scoring@example-project.iam.gserviceaccount.com \
    --properties=spark.executor.cores=4,spark.executor.memory=8g,spark.sql.session.timeZone=UTC \
    --ttl=3h \
    -- conf/games.yaml --date "${1:-yesterday}" --result gs://example-scoring/results/games.json
