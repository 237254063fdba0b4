package register;

import jakarta.servlet.ServletException;
import jakarta.servlet.http.HttpServlet;
import jakarta.servlet.http.HttpServletRequest;
import jakarta.servlet.http.HttpServletResponse;
import java.io.IOException;
import java.nio.charset.StandardCharsets;
import java.sql.Connection;
import java.sql.DriverManager;
import java.sql.PreparedStatement;
import java.sql.ResultSet;
import java.sql.SQLException;
import java.util.StringJoiner;

/** Vessels: list them, enter one, and how it is. */
public class Register extends HttpServlet {
    private Connection open() throws SQLException {
        return DriverManager.getConnection(System.getenv("VESSELS_DB"), "vessels", "");
    }

    @Override
    public void init() throws ServletException {
        try {
            Class.forName("org.postgresql.Driver"); // it lies in the war, not in Tomcat's own lib
        } catch (ClassNotFoundException error) {
            throw new ServletException(error);
        }
    }

    @Override
    protected void doGet(HttpServletRequest request, HttpServletResponse response) throws IOException, ServletException {
        boolean health = request.getServletPath().equals("/health");
        String question = health ? "SELECT count(*)::text FROM vessels"
                : "SELECT to_json(v)::text FROM vessels v ORDER BY id";
        StringJoiner rows = new StringJoiner(",", "[", "]");
        try (Connection connection = open();
                ResultSet found = connection.createStatement().executeQuery(question)) {
            while (found.next()) {
                rows.add(found.getString(1));
            }
        } catch (SQLException error) {
            throw new ServletException(error); // status 500
        }
        String version = getServletContext().getInitParameter("version");
        String said = health ? "\"version\": \"" + version + "\", " : "";
        answer(response, 200, "{" + said + "\"vessels\": " + rows + "}");
    }

    @Override
    protected void doPost(HttpServletRequest request, HttpServletResponse response) throws IOException, ServletException {
        String name = new String(request.getInputStream().readAllBytes(), StandardCharsets.UTF_8);
        try (Connection connection = open();
                PreparedStatement entry = connection.prepareStatement("INSERT INTO vessels (name) VALUES (?)")) {
            entry.setString(1, name);
            entry.executeUpdate();
        } catch (SQLException error) {
            throw new ServletException(error);
        }
        answer(response, 201, "{}");
    }

    private void answer(HttpServletResponse response, int status, String body) throws IOException {
        response.setStatus(status);
        response.setContentType("application/json");
        response.getOutputStream().write(body.getBytes(StandardCharsets.UTF_8));
    }
}
