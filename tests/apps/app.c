/*
 * The test app as a libfcgi program: an ordinary FastCGI responder that serves one request at a time.
 *
 * Paths (the same in every test app):
 *   /                hello text                    /echo            the request body back
 *   /big?n=N         N bytes of a known pattern    /sse             five events, flushed one by one
 *   /vars            NAME=VALUE lines              /sleep?ms=N      answers after N milliseconds
 *   /status?code=N   answers with that status      /pid             the process id
 *   /record?id=X&ms=N   appends "X PID" to the file named by the variable RECORD_FILE, sleeps, answers
 */
#include <fcgiapp.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static void nap(long ms)
{
    struct timespec left = { ms / 1000, (ms % 1000) * 1000000L };
    while (nanosleep(&left, &left) != 0)
        ;
}

/* The text of one query parameter, copied into `value`; empty if it is absent. */
static void query_text(const char *query, const char *name, char *value, size_t size)
{
    size_t wanted = strlen(name);
    value[0] = '\0';
    while (query != NULL && *query != '\0') {
        size_t len = strcspn(query, "&");
        if (len > wanted && strncmp(query, name, wanted) == 0 && query[wanted] == '=') {
            snprintf(value, size, "%.*s", (int)(len - wanted - 1), query + wanted + 1);
            return;
        }
        query += len;
        if (*query == '&')
            query++;
    }
}

static long query_number(const char *query, const char *name)
{
    char value[32];
    query_text(query, name, value, sizeof value);
    return strtol(value, NULL, 10);
}

static void echo(FCGX_Request *request)
{
    static char block[65536];
    const char *type = FCGX_GetParam("CONTENT_TYPE", request->envp);
    const char *length = FCGX_GetParam("CONTENT_LENGTH", request->envp);
    int got;
    FCGX_FPrintF(request->out, "Content-Type: %s\r\n", type ? type : "application/octet-stream");
    if (length != NULL && *length != '\0')
        FCGX_FPrintF(request->out, "Content-Length: %s\r\n", length);
    FCGX_FPrintF(request->out, "\r\n");
    while ((got = FCGX_GetStr(block, sizeof block, request->in)) > 0)
        FCGX_PutStr(block, got, request->out);
}

static void big(FCGX_Request *request, long n)
{
    static char block[65536];
    for (size_t i = 0; i < sizeof block; i++)
        block[i] = "0123456789abcdef"[i % 16];
    FCGX_FPrintF(request->out, "Content-Type: application/octet-stream\r\nContent-Length: %ld\r\n\r\n", n);
    while (n > 0) {
        int part = n < (long)sizeof block ? (int)n : (int)sizeof block;
        FCGX_PutStr(block, part, request->out);
        n -= part;
    }
}

static void sse(FCGX_Request *request)
{
    FCGX_FPrintF(request->out, "Content-Type: text/event-stream\r\n\r\n");
    for (int i = 1; i <= 5; i++) {
        FCGX_FPrintF(request->out, "data: %d\n\n", i);
        FCGX_FFlush(request->out);
        if (i < 5)
            nap(60);
    }
}

static void record(FCGX_Request *request, const char *query)
{
    char id[128], line[160];
    const char *path = FCGX_GetParam("RECORD_FILE", request->envp);
    query_text(query, "id", id, sizeof id);
    int len = snprintf(line, sizeof line, "%s %ld\n", id, (long)getpid());
    int fd = path ? open(path, O_WRONLY | O_CREAT | O_APPEND, 0644) : -1;
    if (fd < 0 || write(fd, line, (size_t)len) != len) {
        FCGX_FPrintF(request->out, "Status: 500 Internal Server Error\r\nContent-Type: text/plain\r\n\r\nnot recorded\n");
        if (fd >= 0)
            close(fd);
        return;
    }
    close(fd);
    nap(query_number(query, "ms"));
    FCGX_FPrintF(request->out, "Content-Type: text/plain\r\n\r\nrecorded %s\n", id);
}

static void text(FCGX_Request *request, const char *format, long number)
{
    FCGX_FPrintF(request->out, "Content-Type: text/plain\r\n\r\n");
    FCGX_FPrintF(request->out, format, number);
}

static void answer(FCGX_Request *request)
{
    const char *path = FCGX_GetParam("PATH_INFO", request->envp);
    const char *query = FCGX_GetParam("QUERY_STRING", request->envp);
    if (path == NULL || *path == '\0')
        path = FCGX_GetParam("SCRIPT_NAME", request->envp); /* as nginx and lighttpd send it */
    if (path == NULL)
        path = "/";
    if (strcmp(path, "/") == 0) {
        FCGX_PutStr("Content-Type: text/plain\r\nContent-Length: 6\r\n\r\nhello\n", 53, request->out);
    } else if (strcmp(path, "/echo") == 0) {
        echo(request);
    } else if (strcmp(path, "/big") == 0) {
        big(request, query_number(query, "n"));
    } else if (strcmp(path, "/sse") == 0) {
        sse(request);
    } else if (strcmp(path, "/vars") == 0) {
        FCGX_FPrintF(request->out, "Content-Type: text/plain\r\n\r\n");
        for (char **pair = request->envp; *pair != NULL; pair++)
            FCGX_FPrintF(request->out, "%s\n", *pair);
    } else if (strcmp(path, "/sleep") == 0) {
        nap(query_number(query, "ms"));
        text(request, "slept %ld\n", query_number(query, "ms"));
    } else if (strcmp(path, "/status") == 0) {
        FCGX_FPrintF(request->out, "Status: %ld\r\n", query_number(query, "code"));
        text(request, "status %ld\n", query_number(query, "code"));
    } else if (strcmp(path, "/local") == 0) {
        /* RFC 3875 section 6.2.2: another path of this server is served in place of this one. */
        const char *to = FCGX_GetParam("QUERY_STRING", request->envp);
        FCGX_FPrintF(request->out, "Location: %s\r\n\r\n", to);
    } else if (strcmp(path, "/pid") == 0) {
        text(request, "%ld\n", (long)getpid());
    } else if (strcmp(path, "/record") == 0) {
        record(request, query);
    } else {
        FCGX_FPrintF(request->out, "Status: 404 Not Found\r\n");
        text(request, "no such path\n", 0);
    }
}

int main(void)
{
    FCGX_Request request;
    if (FCGX_Init() != 0 || FCGX_InitRequest(&request, 0, 0) != 0)
        return 1;
    while (FCGX_Accept_r(&request) == 0) {
        answer(&request);
        FCGX_Finish_r(&request);
    }
    return 0;
}
