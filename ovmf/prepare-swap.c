/* Prepares a partition, a blank disk or an image file as Faultline's swap space, on Linux. */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "cpu/machine.h"
#include "ovmf/prepare-swap.h"

static const char usage[] =
    "usage: prepare-swap [options] TARGET\n"
    "\n"
    "Prepares TARGET as swap space for Faultline. Without --yes it only says what it would do.\n"
    "TARGET is one of\n"
    "  an image file    a raw disk image; it is created where it does not exist, gets a GUID\n"
    "                   partition table with one partition, or keeps the one it has\n"
    "  a partition      a block device such as /dev/sdb3, of Faultline's partition type\n"
    "  a blank disk     a block device without any content\n"
    "\n"
    "  --yes            do it\n"
    "  --force          go on where there is other content; the disk's serial number must then\n"
    "                   be typed in. What is mounted or in use is refused all the same\n"
    "  --size SIZE      size of a new image, with K, M or G behind the number (256M)\n"
    "  --serial TEXT    serial number of the disk that the header is bound to\n"
    "  --model TEXT     its model\n"
    "                   both are asked of a device itself; an image takes QEMU's defaults,\n"
    "                   \"QM00001\" and \"QEMU HARDDISK\"\n"
    "  --uuid UUID      the set's UUID, random where not given\n"
    "  --help           this text\n"
    "\n"
    "exit status: 0 done, or a dry run that would be; 1 refused; 2 wrong usage; 3 system error\n";

_Noreturn void quit(int status, const char *format, ...)
{
    va_list arguments;

    fprintf(stderr, "prepare-swap: ");
    va_start(arguments, format);
    vfprintf(stderr, format, arguments);
    va_end(arguments);
    fprintf(stderr, "\n");
    exit(status);
}

/* The shared code's machine: a panic ends the program, and ticks are a number that changes. */
_Noreturn void panic_at(const char *file, int line, const char *format, ...)
{
    char message[256];
    va_list arguments;

    va_start(arguments, format);
    vsnprintf(message, sizeof(message), format, arguments);
    va_end(arguments);
    quit(EXIT_SYSTEM, "%s:%d: %s", file, line, message);
}

uint64_t machine_ticks(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * UINT64_C(1000000000) + (uint64_t)now.tv_nsec;
}

static void say_plan(const struct job *job, const struct request *request)
{
    uint64_t first = job->partition.first_lba;
    uint64_t last = job->partition.last_lba;
    uint64_t bytes = (last - first + 1) * SECTOR_SIZE;
    char text[37];

    printf("target:    %s\n", request->target);
    printf("disk:      model \"%s\", serial \"%s\", %" PRIu64 " sectors of 512 bytes\n",
           job->identity.model, job->identity.serial, job->identity.sectors);
    gpt_guid_text(job->partition.unique, text);
    printf("partition: sectors %" PRIu64 " to %" PRIu64 " (%" PRIu64 " KiB), GUID %s\n", first,
           last, bytes / KIB, text);
    printf("content:   %s\n", job->content != NULL ? job->content : "nothing that is needed");
    swap_uuid_text(job->header.set_uuid, text);
    printf("set:       %s\n", text);
    if (job->create)
        printf("will create the file with %" PRIu64 " bytes\n",
               job->identity.sectors * SECTOR_SIZE);
    if (job->make_table)
        printf("will zero bytes 0 to %" PRIu64 " and write a partition table with one partition "
               "at both ends of the disk\n",
               EDGE - 1);
    printf("will zero bytes %" PRIu64 " to %" PRIu64 "\n", first * SECTOR_SIZE,
           first * SECTOR_SIZE + min_u64(EDGE, bytes) - 1);
    printf("will write headers at bytes %" PRIu64 " and %" PRIu64 ", for %" PRIu64
           " pages of swap space\n",
           first * SECTOR_SIZE, swap_second_header_lba(first, last) * SECTOR_SIZE,
           swap_slot_count(first, last));
    fflush(stdout);
}

/* Asks for the disk's serial number before other content is overwritten: it is on the label. */
static void ask_for_serial(const struct job *job, const struct request *request)
{
    char line[128];

    if (job->content == NULL)
        return;
    if (!request->force)
        quit(EXIT_NOT_ALLOWED, "refused, since there is %s: --force would destroy it",
             job->content);
    if (!request->yes)
        return;
    fprintf(stderr,
            "This destroys %s on %s.\nType the disk's serial number to go on: ", job->content,
            request->target);
    if (fgets(line, sizeof(line), stdin) == NULL)
        line[0] = '\0';
    line[strcspn(line, "\n")] = '\0';
    if (strcmp(line, job->identity.serial) != 0)
        quit(EXIT_NOT_ALLOWED, "that is not the serial number: nothing was changed");
}

static uint64_t parse_size(const char *text)
{
    char *end;
    uint64_t unit = 1;
    uint64_t value;

    errno = 0;
    value = strtoull(text, &end, 10);
    switch (*end) {
    case 'K': unit = KIB; break;
    case 'M': unit = MIB; break;
    case 'G': unit = GIB; break;
    default: break;
    }
    if (unit != 1)
        end++;
    if (end == text || *end != '\0' || text[0] == '-' || errno != 0 || value == 0 ||
        value > UINT64_C(1) << 43 || value * unit > UINT64_C(1) << 46)
        quit(EXIT_USAGE, "not a size: %s", text);
    return value * unit;
}

static struct request parse_arguments(int argc, char **argv)
{
    static const struct option options[] = {
        {"yes", no_argument, NULL, 'y'},         {"force", no_argument, NULL, 'f'},
        {"size", required_argument, NULL, 's'},  {"serial", required_argument, NULL, 'n'},
        {"model", required_argument, NULL, 'm'}, {"uuid", required_argument, NULL, 'u'},
        {"help", no_argument, NULL, 'h'},        {NULL, 0, NULL, 0}};
    struct request request = {0};
    int letter;

    while ((letter = getopt_long(argc, argv, "", options, NULL)) != -1) {
        switch (letter) {
        case 'y': request.yes = true; break;
        case 'f': request.force = true; break;
        case 's': request.size = parse_size(optarg); break;
        case 'n': request.serial = optarg; break;
        case 'm': request.model = optarg; break;
        case 'u':
            request.has_uuid = true;
            if (!swap_uuid_parse(optarg, request.uuid))
                quit(EXIT_USAGE, "not a UUID: %s", optarg);
            break;
        case 'h': fputs(usage, stdout); exit(EXIT_DONE);
        default: fputs(usage, stderr); exit(EXIT_USAGE);
        }
    }
    if (optind != argc - 1) {
        fputs(usage, stderr);
        exit(EXIT_USAGE);
    }
    request.target = argv[optind];
    return request;
}

int main(int argc, char **argv)
{
    struct request request = parse_arguments(argc, argv);
    static struct job job;
    struct stat about;

    job.disk_fd = job.write_fd = -1;
    make_frames();
    if (stat(request.target, &about) != 0) {
        if (errno != ENOENT)
            quit(EXIT_SYSTEM, "cannot look at %s: %s", request.target, strerror(errno));
        plan_new_image(&job, &request);
    } else if (S_ISREG(about.st_mode)) {
        plan_image(&job, &request, &about);
    } else if (S_ISBLK(about.st_mode)) {
        plan_device(&job, &request, &about);
    } else {
        quit(EXIT_USAGE, "%s is neither a file nor a disk", request.target);
    }
    plan_header(&job, &request);
    say_plan(&job, &request);
    ask_for_serial(&job, &request);
    if (!request.yes) {
        printf("This was a dry run: nothing was changed. --yes does it.\n");
        return EXIT_DONE;
    }
    perform(&job);
    printf("done\n");
    return EXIT_DONE;
}
