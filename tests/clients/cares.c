/* Look a name up with c-ares: cares NAME [4|6]; its addresses, one a line. */
#include <arpa/inet.h>
#include <ares.h>
#include <netdb.h>
#include <stdio.h>
#include <sys/select.h>

static void print(void *status, int fault, int timeouts, struct ares_addrinfo *found)
{
    struct ares_addrinfo_node *one;
    char text[INET6_ADDRSTRLEN];

    (void)timeouts;
    *(int *)status = fault;
    if (fault != ARES_SUCCESS) {
        fprintf(stderr, "%s\n", ares_strerror(fault));
        return;
    }
    for (one = found->nodes; one != NULL; one = one->ai_next) {
        void *address = one->ai_family == AF_INET6
            ? (void *)&((struct sockaddr_in6 *)one->ai_addr)->sin6_addr
            : (void *)&((struct sockaddr_in *)one->ai_addr)->sin_addr;
        puts(inet_ntop(one->ai_family, address, text, sizeof text));
    }
    ares_freeaddrinfo(found);
}

int main(int count, char **words)
{
    struct ares_addrinfo_hints hints = {.ai_family = AF_UNSPEC};
    struct timeval longest, *wait;
    fd_set reading, writing;
    ares_channel channel;
    int sockets, status = -1;

    if (count < 2 || ares_library_init(ARES_LIB_INIT_ALL) || ares_init(&channel))
        return 2;
    if (count > 2)
        hints.ai_family = words[2][0] == '6' ? AF_INET6 : AF_INET;
    ares_getaddrinfo(channel, words[1], NULL, &hints, print, &status);
    for (;;) {
        FD_ZERO(&reading);
        FD_ZERO(&writing);
        if ((sockets = ares_fds(channel, &reading, &writing)) == 0)
            break;
        wait = ares_timeout(channel, NULL, &longest);
        select(sockets, &reading, &writing, NULL, wait);
        ares_process(channel, &reading, &writing);
    }
    ares_destroy(channel);
    return status != ARES_SUCCESS;
}
