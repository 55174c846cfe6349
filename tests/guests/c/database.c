// Makes every call to the database once, in a fixed order, and writes each
// answer on a line: "none" for 0.
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#define IMPORT(module, field) __attribute__((import_module(module), import_name(field)))

IMPORT("env", "db_query")
uint64_t db_query(const char *sql, uint32_t sql_len, const char *args, uint32_t args_len);
IMPORT("env", "db_execute")
uint32_t db_execute(const char *sql, uint32_t sql_len, const char *args, uint32_t args_len);
IMPORT("host", "db_query_v2")
uint64_t db_query_v2(const char *sql, uint32_t sql_len, const char *args, uint32_t args_len);
IMPORT("host", "db_execute_v2")
uint64_t db_execute_v2(const char *sql, uint32_t sql_len, const char *args, uint32_t args_len);
IMPORT("orama", "db_transaction")
uint64_t db_transaction(const char *ops, uint32_t ops_len);
IMPORT("orama", "db_query_batch")
uint64_t db_query_batch(const char *ops, uint32_t ops_len);

static uint32_t len(const char *text) { return (uint32_t)strlen(text); }

static void line(uint64_t packed) {
    if (packed == 0) {
        puts("none");
        return;
    }
    fwrite((const char *)(uintptr_t)(packed >> 32), 1, (uint32_t)packed, stdout);
    putchar('\n');
}

int main(void) {
    const char *create = "CREATE TABLE c (id INTEGER PRIMARY KEY, name TEXT UNIQUE)";
    const char *insert = "INSERT INTO c (name) VALUES (?)";
    const char *select = "SELECT id, name FROM c ORDER BY id";
    const char *batch = "{\"ops\":[{\"sql\":\"SELECT count(*) AS n FROM c\"}],\"consistency\":\"none\"}";
    const char *ops = "{\"ops\":["
                      "{\"kind\":\"exec\",\"sql\":\"INSERT INTO c (name) VALUES (?)\",\"args\":[\"two\"]},"
                      "{\"kind\":\"query\",\"sql\":\"SELECT name FROM c WHERE id = 2\"}]}";
    line(db_execute_v2(create, len(create), 0, 0));
    printf("%u\n", db_execute(insert, len(insert), "[\"one\"]", 7));
    line(db_query(select, len(select), 0, 0));
    line(db_transaction(ops, len(ops)));
    line(db_query_v2(select, len(select), "[]", 2));
    line(db_query_batch(batch, len(batch)));
    // Failures: 0 from the old ones, an envelope from the others.
    printf("%u\n", db_execute(insert, len(insert), "[\"one\"]", 7));
    line(db_query("SELECT * FROM nowhere", 21, 0, 0));
    line(db_execute_v2(insert, len(insert), "[\"two\"]", 7));
    line(db_query_v2(select, len(select), (const char *)-4, 16));
    return 0;
}
