/* Loaded into Chromium: it hears nothing of the machine's network interfaces.
 *
 * Whenever one comes or goes, as Docker's do for a container, Chromium gives up the
 * connections that it is opening, to loopback too: net::ERR_NETWORK_CHANGED.
 */

#include <errno.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

int socket(int domain, int type, int protocol)
{
    if (domain == AF_NETLINK) {
        errno = EAFNOSUPPORT;
        return -1;
    }
    return syscall(SYS_socket, domain, type, protocol);
}
