package ottla.benches;

import com.fasterxml.jackson.core.JsonFactory;
import com.fasterxml.jackson.core.JsonGenerator;
import com.fasterxml.jackson.databind.ObjectMapper;
import java.io.ByteArrayInputStream;
import java.io.ByteArrayOutputStream;
import java.io.IOException;
import java.io.UncheckedIOException;
import java.net.URI;
import java.util.Collection;
import java.util.HashMap;
import java.util.Map;
import org.apache.kafka.clients.consumer.OffsetAndMetadata;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.config.AbstractConfig;
import org.apache.kafka.connect.errors.DataException;
import org.apache.kafka.connect.sink.SinkRecord;
import org.apache.kafka.connect.sink.SinkTask;
import org.slf4j.Logger;
import org.slf4j.LoggerFactory;
import software.amazon.awssdk.auth.credentials.AwsBasicCredentials;
import software.amazon.awssdk.auth.credentials.StaticCredentialsProvider;
import software.amazon.awssdk.core.sync.RequestBody;
import software.amazon.awssdk.regions.Region;
import software.amazon.awssdk.services.s3.S3Client;

/**
 * Collects the lines of each partition in memory and puts them as an object once there are enough of them.
 *
 * <p>An object is named after its first record's offset, and only offsets that lie in objects are committed: a task that
 * starts again reads what its predecessor had not put, and puts the same objects.
 */
public final class S3SinkTask extends SinkTask {
    private static final Logger LOG = LoggerFactory.getLogger(S3SinkTask.class);

    private final Map<TopicPartition, OpenObject> open = new HashMap<>();
    private final Map<TopicPartition, OffsetAndMetadata> written = new HashMap<>();
    private final JsonFactory json = new ObjectMapper().getFactory();
    private S3Client s3;
    private String bucket;
    private String prefix;
    private int flushSize;

    @Override
    public void start(Map<String, String> properties) {
        var config = new AbstractConfig(S3Sink.CONFIG, properties, false);
        bucket = config.getString(S3Sink.BUCKET);
        prefix = config.getString(S3Sink.PREFIX);
        flushSize = config.getInt(S3Sink.FLUSH_SIZE);
        var credentials =
            AwsBasicCredentials.create(config.getString(S3Sink.KEY), config.getPassword(S3Sink.SECRET).value());
        s3 = S3Client.builder()
            .endpointOverride(URI.create(config.getString(S3Sink.ENDPOINT)))
            .forcePathStyle(true)
            .region(Region.US_EAST_1)
            .credentialsProvider(StaticCredentialsProvider.create(credentials))
            .build();
    }

    @Override
    public void put(Collection<SinkRecord> records) {
        for (SinkRecord record : records) {
            var partition = new TopicPartition(record.originalTopic(), record.originalKafkaPartition());
            OpenObject object = open.get(partition);
            if (object == null) {
                object = new OpenObject(record.originalKafkaOffset());
                open.put(partition, object);
            }
            object.add(record);
            if (object.records == flushSize) {
                open.remove(partition);
                put(partition, object);
                written.put(partition, new OffsetAndMetadata(record.originalKafkaOffset() + 1));
            }
        }
    }

    private void put(TopicPartition partition, OpenObject object) {
        object.close();
        String topic = partition.topic();
        int number = partition.partition();
        String name = String.format(
            "%stopics/%s/partition=%d/%s+%d+%010d.json", prefix, topic, number, topic, number, object.firstOffset);
        // A retry of the SDK reads the same bytes again; they are not copied for it.
        RequestBody body = RequestBody.fromContentProvider(object.bytes::reader, object.bytes.size(), "application/json");
        s3.putObject(request -> request.bucket(bucket).key(name), body);
        // The benches read this line: it says when the object was there.
        LOG.info("put {} records as {}", object.records, name);
    }

    @Override
    public Map<TopicPartition, OffsetAndMetadata> preCommit(Map<TopicPartition, OffsetAndMetadata> consumed) {
        return new HashMap<>(written);
    }

    @Override
    public void close(Collection<TopicPartition> partitions) {
        for (TopicPartition partition : partitions) {
            open.remove(partition);
            written.remove(partition);
        }
    }

    @Override
    public void stop() {
        if (s3 != null) {
            s3.close();
        }
    }

    @Override
    public String version() {
        return "1";
    }

    /** The lines that a partition's next object will have. */
    private final class OpenObject {
        final long firstOffset;
        final Bytes bytes = new Bytes();
        private final JsonGenerator lines;
        int records;

        OpenObject(long firstOffset) {
            this.firstOffset = firstOffset;
            try {
                lines = json.createGenerator(bytes).setRootValueSeparator(null);
            } catch (IOException error) {
                throw new UncheckedIOException(error);
            }
        }

        void add(SinkRecord record) {
            try {
                lines.writeObject(record.value());
                lines.writeRaw('\n');
                records++;
            } catch (IOException error) {
                throw new DataException("a record could not be written as JSON: " + record, error);
            }
        }

        void close() {
            try {
                lines.close();
            } catch (IOException error) {
                throw new UncheckedIOException(error);
            }
        }
    }

    /** Bytes in memory that can be read without a copy of them. */
    private static final class Bytes extends ByteArrayOutputStream {
        ByteArrayInputStream reader() {
            return new ByteArrayInputStream(buf, 0, count);
        }
    }
}
