/* The load generator of the media benchmarks: players, publishers and idle clients of RTMP, one process, one epoll.

   Orders come on standard input, a line each; answers go to standard output, a JSON object each. bench/native_load.py is the
   other side:

     headers HEX HEX HEX                          what publishers send first: metadata, AVC and AAC sequence headers
     shape FRAMES_S SAMPLES RATE AUDIO SIZE...    audio frames of SAMPLES at RATE and AUDIO bytes; video sizes of a GOP
     publish HOST PORT APP STREAM COUNT UNDER_WAY FIRST
     play HOST PORT APP STREAM COUNT UNDER_WAY STREAMS STRIDE FIRST
     hold HOST PORT APP COUNT UNDER_WAY           connect and do nothing
     begin, end                                   a window, answered at its end
     stop                                         or the end of the input

     {"event": "opened", "role": ..., "count": N}    while they open
     {"event": "ready", "role": ..., "count": N, "wall_s": S}
     {"event": "window", ...}
     {"event": "failed", "text": ...}                and it ends: with status 2 for an order that it cannot obey, else with 1 */

#define _GNU_SOURCE
#include "alloc.h"
#include "orders.h"
#include "publish.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { EVENTS = 64, ORDERS = 64, SIZES = 4096 };

static const char *ROLE_NAMES[ROLES] = { "hold", "play", "publish" };

static int epoll_fd;
static Order orders[ORDERS];
static unsigned order_count;
static Client **clients;
static unsigned client_count, client_room;

/* Opening */

static void open_more(Order *order)
{
    while (order->made < order->count && order->made < order->opened + order->under_way) {
        if (client_count == client_room) {
            client_room = client_room ? client_room * 2 : 64;
            clients = xalloc(clients, client_room, sizeof *clients);
        }
        Client *client = xzeroed(1, sizeof *client);
        client->order = order;
        client->number = order->made++;
        clients[client_count++] = client;
        const char *fault = client_connect(client, epoll_fd);
        if (fault)
            fail(ROLE_NAMES[order->role], fault);
    }
}

static void opened(Client *client)
{
    Order *order = client->order;
    order->opened++;
    if (order->role == PUBLISH) {
        const char *fault = publish_begin(client, epoll_fd);
        if (fault)
            fail("publish", fault);
    }
    say_opened(ROLE_NAMES[order->role], order->opened, order->count, order->begun_ns);
    open_more(order);
}

/* A player or idle client that is closed later on is counted; anything else ends the load. */
static void broken(Client *client, const char *fault)
{
    Order *order = client->order;
    if (client->state != OPEN || order->role == PUBLISH || client->misled) {
        char what[96];
        snprintf(what, sizeof what, "%s, client %u of %u", ROLE_NAMES[order->role], client->number + 1, order->count);
        fail(what, fault);
    }
    client_close(client);
    window.closed++;
}

/* Windows */

static void begin_window(void)
{
    memset(&window, 0, sizeof window);
    window.begun = moment_now();
    for (unsigned number = 0; number < client_count; number++)
        clients[number]->begun_received = clients[number]->received;
}

static void print_histogram(const char *name, const Histogram *histogram)
{
    printf(", \"%s\": ", name);
    histogram_print(histogram, stdout);
}

static void end_window(void)
{
    const char *comma = "";
    Moment ended = moment_now();
    /* A silence that has not ended is a gap too. */
    for (unsigned number = 0; number < client_count; number++) {
        const Client *client = clients[number];
        uint64_t last = client->last_video_ns > window.begun.at_ns ? client->last_video_ns : window.begun.at_ns;
        if (client->order->role == PLAY && ended.at_ns - last > window.gap.max_ns)
            window.gap.max_ns = ended.at_ns - last;
    }
    say_window(&window.begun, &ended);
    printf(", \"messages\": %" PRIu64 ", \"missing\": %" PRIu64 ", \"disordered\": %" PRIu64 ", \"closed\": %" PRIu64
           ", \"sent\": %" PRIu64 ", \"backlog_bytes\": %" PRIu64,
        window.messages, window.missing, window.disordered, window.closed, window.sent, window.backlog_bytes);
    print_histogram("latency", &window.latency);
    print_histogram("gap", &window.gap);
    print_histogram("lag", &window.lag);
    printf(", \"bytes_each\": [");
    for (unsigned number = 0; number < client_count; number++) {
        if (clients[number]->order->role != PLAY)
            continue;
        printf("%s%" PRIu64, comma, clients[number]->received - clients[number]->begun_received);
        comma = ", ";
    }
    printf("]}\n");
    fflush(stdout);
}

/* Orders */

static void set_headers(char **words)
{
    for (unsigned number = 0; number < 3; number++) {
        Buffer *header = &shape.headers[number];
        header->size = 0;
        for (const char *at = words[number]; at[0] && at[1]; at += 2) {
            unsigned byte = 0;
            if (sscanf(at, "%2x", &byte) != 1)
                refuse("not hexadecimal", words[number]);
            buffer_add(header, &(uint8_t) { (uint8_t)byte }, 1);
        }
    }
}

static void set_shape(char **words, unsigned count)
{
    uint32_t sizes[SIZES];
    for (unsigned number = 4; number < count; number++)
        sizes[number - 4] = number_of(words[number]);
    shape_set(number_of(words[0]), number_of(words[1]), number_of(words[2]), number_of(words[3]), sizes, count - 4);
}

static void take_order(Role role, char **words)
{
    if (order_count == ORDERS)
        refuse(ROLE_NAMES[role], "too many orders");
    Order *order = &orders[order_count++];
    *order = order_to(role, words);
    words += 3;
    if (role != HOLD)
        text_of(*words++, order->stream, sizeof order->stream);
    order->count = number_of(words[0]);
    order->under_way = number_of(words[1]);
    if (role == PUBLISH) {
        order->first = number_of(words[2]);
    } else if (role == PLAY) {
        order->streams = number_of(words[2]);
        order->stride = number_of(words[3]);
        order->first = number_of(words[4]);
    }
    if (!order->count || !order->under_way || !order->streams)
        refuse(ROLE_NAMES[role], "of none there is nothing to do");
    if (role == PUBLISH && !shape.gop_frames)
        refuse("publish", "the shape of the streams is not known");
    open_more(order);
}

static void obey(char **words, unsigned count)
{
    const char *what = words[0];
    unsigned given = count - 1;
    if (!strcmp(what, "stop"))
        exit(0);
    else if (!strcmp(what, "begin"))
        begin_window();
    else if (!strcmp(what, "end"))
        end_window();
    else if (!strcmp(what, "headers") && given == 3)
        set_headers(words + 1);
    else if (!strcmp(what, "shape") && given > 4)
        set_shape(words + 1, given);
    else if (!strcmp(what, "publish") && given == 7)
        take_order(PUBLISH, words + 1);
    else if (!strcmp(what, "play") && given == 9)
        take_order(PLAY, words + 1);
    else if (!strcmp(what, "hold") && given == 5)
        take_order(HOLD, words + 1);
    else
        refuse("not an order", what);
}

/* The loop */

static void turn(uint64_t due_ns)
{
    struct epoll_event events[EVENTS];
    int count = wait_until(epoll_fd, events, EVENTS, due_ns);
    for (int number = 0; number < count; number++) {
        Client *client = events[number].data.ptr;
        if (!client) {
            orders_read(obey);
            continue;
        }
        State before = client->state;
        const char *fault = client_ready(client, epoll_fd, events[number].events);
        if (fault)
            broken(client, fault);
        else if (client->state == OPEN && before != OPEN)
            opened(client);
    }
}

int main(void)
{
    epoll_fd = orders_begin();
    begin_window();
    for (;;) {
        uint64_t next_ns;
        Client *late = NULL;
        const char *fault = publish_due(epoll_fd, &next_ns, &late);
        if (fault)
            broken(late, fault);
        turn(next_ns);
    }
}
