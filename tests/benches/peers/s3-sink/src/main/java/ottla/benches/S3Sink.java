package ottla.benches;

import java.util.Collections;
import java.util.List;
import java.util.Map;
import org.apache.kafka.common.config.ConfigDef;
import org.apache.kafka.common.config.ConfigDef.Importance;
import org.apache.kafka.common.config.ConfigDef.Range;
import org.apache.kafka.common.config.ConfigDef.Type;
import org.apache.kafka.connect.connector.Task;
import org.apache.kafka.connect.sink.SinkConnector;

/**
 * Writes records to S3 as JSON lines: one object for every {@code flush.size} records of a partition.
 *
 * <p>It is what Kafka Connect is measured with beside Ottla. It does what a real sink cannot leave out, and nothing
 * else: no rotation by time, no partitioners, no other formats, and one PUT for an object where Confluent's sink
 * creates, fills and completes a multipart upload. So it is a lighter peer than that one.
 */
public final class S3Sink extends SinkConnector {
    static final String ENDPOINT = "s3.endpoint";
    static final String BUCKET = "s3.bucket";
    static final String KEY = "s3.access.key";
    static final String SECRET = "s3.secret.key";
    static final String PREFIX = "s3.prefix";
    static final String FLUSH_SIZE = "flush.size";

    static final ConfigDef CONFIG = new ConfigDef()
        .define(ENDPOINT, Type.STRING, Importance.HIGH, "URL of the S3 server; buckets are addressed by path.")
        .define(BUCKET, Type.STRING, Importance.HIGH, "The bucket, which must be there.")
        .define(KEY, Type.STRING, Importance.HIGH, "Id of the access key.")
        .define(SECRET, Type.PASSWORD, Importance.HIGH, "The access key's secret.")
        .define(PREFIX, Type.STRING, "", Importance.MEDIUM, "What object names begin with, before topics/; ends with /.")
        .define(
            FLUSH_SIZE, Type.INT, ConfigDef.NO_DEFAULT_VALUE, Range.atLeast(1), Importance.HIGH,
            "Records of a partition in an object.");

    private Map<String, String> properties;

    @Override
    public void start(Map<String, String> properties) {
        this.properties = properties;
    }

    @Override
    public void stop() {}

    @Override
    public Class<? extends Task> taskClass() {
        return S3SinkTask.class;
    }

    @Override
    public List<Map<String, String>> taskConfigs(int maxTasks) {
        return Collections.nCopies(maxTasks, properties);
    }

    @Override
    public ConfigDef config() {
        return CONFIG;
    }

    @Override
    public String version() {
        return "1";
    }
}
