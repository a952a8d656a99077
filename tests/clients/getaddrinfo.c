/* Look a name up as any program does: getaddrinfo NAME [4|6]; its addresses, one a line. */
#include <arpa/inet.h>
#include <netdb.h>
#include <stdio.h>
#include <sys/socket.h>

int main(int count, char **words)
{
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM}, *found, *one;
    char text[INET6_ADDRSTRLEN];
    int fault;

    if (count < 2)
        return 2;
    if (count > 2)
        hints.ai_family = words[2][0] == '6' ? AF_INET6 : AF_INET;
    if ((fault = getaddrinfo(words[1], NULL, &hints, &found)) != 0) {
        fprintf(stderr, "%s: %s\n", words[1], gai_strerror(fault));
        return 1;
    }
    for (one = found; one != NULL; one = one->ai_next) {
        void *address = one->ai_family == AF_INET6
            ? (void *)&((struct sockaddr_in6 *)one->ai_addr)->sin6_addr
            : (void *)&((struct sockaddr_in *)one->ai_addr)->sin_addr;
        puts(inet_ntop(one->ai_family, address, text, sizeof text));
    }
    return 0;
}
