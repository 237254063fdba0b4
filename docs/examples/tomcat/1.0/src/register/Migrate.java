package register;

import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.sql.Connection;
import java.sql.DriverManager;
import java.sql.ResultSet;
import java.sql.SQLException;
import java.sql.Statement;
import java.util.List;
import java.util.stream.Stream;

/**
 * The least that Flyway does, with its words: -url= -user= -locations=filesystem:DIRECTORY migrate.
 * A release that has Flyway calls that instead; its files stay as they are.
 */
public class Migrate {
    public static void main(String[] words) throws IOException, SQLException {
        String url = "";
        String user = "";
        Path place = null;
        for (String word : words) {
            String value = word.substring(word.indexOf('=') + 1);
            if (word.startsWith("-url=")) {
                url = value;
            } else if (word.startsWith("-user=")) {
                user = value;
            } else if (word.startsWith("-locations=filesystem:")) {
                place = Path.of(value.substring("filesystem:".length()));
            }
        }
        List<Path> files;
        try (Stream<Path> found = Files.list(place)) {
            files = found.sorted().toList();
        }
        try (Connection connection = DriverManager.getConnection(url, user, "")) {
            connection.setAutoCommit(false);
            Statement statement = connection.createStatement();
            statement.execute("CREATE TABLE IF NOT EXISTS schema_history (file text PRIMARY KEY)");
            for (Path file : files) {
                String name = file.getFileName().toString();
                try (ResultSet done = statement.executeQuery(
                        "SELECT 1 FROM schema_history WHERE file = '" + name + "'")) {
                    if (done.next()) {
                        continue;
                    }
                }
                statement.execute(Files.readString(file));
                statement.execute("INSERT INTO schema_history VALUES ('" + name + "')");
                System.out.println("migrated: " + name);
            }
            connection.commit();
        }
    }
}
