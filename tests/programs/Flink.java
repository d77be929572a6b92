// Flink.java HOST PORT: a sum in seven groups, given to the JobManager there; prints the groups.
import org.apache.flink.configuration.Configuration;
import org.apache.flink.table.api.EnvironmentSettings;
import org.apache.flink.table.api.TableEnvironment;

public class Flink {
	public static void main(String[] args) {
		Configuration settings = new Configuration();
		settings.setString("execution.target", "remote");
		settings.setString("rest.address", args[0]);
		settings.setString("rest.port", args[1]);
		settings.setString("parallelism.default", "2");
		TableEnvironment tables = TableEnvironment.create(
				EnvironmentSettings.newInstance().inBatchMode().withConfiguration(settings).build());
		tables.executeSql("CREATE TEMPORARY TABLE numbers (n BIGINT) WITH ('connector' = 'datagen', 'number-of-rows' = '200000',"
				+ " 'rows-per-second' = '1000000', 'fields.n.kind' = 'sequence', 'fields.n.start' = '0', 'fields.n.end' = '199999')");
		tables.executeSql("SELECT MOD(n, 7), COUNT(*), SUM(n), MAX(CHAR_LENGTH(REPEAT(CAST(n AS STRING), 9))) FROM numbers GROUP BY MOD(n, 7)")
				.collect().forEachRemaining(row -> System.out.println("row " + row));
	}
}
