/* Prepares a partition, a blank disk or an image file as Faultline's swap space, on Linux. */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "ovmf/prepare-swap.h"

/* The largest size of an image, far beyond any disk of today. */
#define SIZE_MOST (64 * 1024 * GIB)

const char program_name[] = "prepare-swap";

static const char usage[] =
    "usage: prepare-swap [options] TARGET\n"
    "       prepare-swap [options] --mirror OTHER TARGET\n"
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
    "  --size SIZE      size of a new image, with K, M, G or T behind the number (256M)\n"
    "  --serial TEXT    serial number of the disk that the header is bound to\n"
    "  --model TEXT     its model\n"
    "                   both are asked of a device itself; an image takes QEMU's defaults,\n"
    "                   \"QM00001\" and \"QEMU HARDDISK\"\n"
    "  --uuid UUID      the set's UUID, random where not given\n"
    "  --mirror OTHER   makes TARGET and OTHER the halves of a mirror: two sets of one group.\n"
    "                   --serial and --model may then be given twice, the second time for OTHER,\n"
    "                   which as an image takes the serial number \"QM00003\" where it is not;\n"
    "                   --group may name the group, which is random where not given\n"
    "  --role ROLE      stripe, or mirror for one half alone: the set is one of a group; then "
    "also\n"
    "  --group UUID     the group's UUID, and\n"
    "  --member I/N     this set's place I in the group of N sets, from 1; of a mirror N is 2\n"
    "  --help           this text\n"
    "\n"
    "exit status: 0 done, or a dry run that would be; 1 refused; 2 wrong usage; 3 system error\n";

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
    if (job->header.role != SET_ALONE) {
        swap_uuid_text(job->header.group_uuid, text);
        printf("group:     %s, %s %u of %u\n", text,
               job->header.role == SET_MIRROR ? "half" : "set", job->header.member + 1,
               job->header.members);
    }
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
           swap_header_slots(&job->header));
    printf("will zero the log area, %" PRIu64 " KiB before the second header\n",
           job->header.log_sectors * SECTOR_SIZE / KIB);
    flush_words(UNCHANGED);
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
    case 'T': unit = 1024 * GIB; break;
    default: break;
    }
    if (unit != 1)
        end++;
    if (text[0] < '0' || text[0] > '9' || *end != '\0' || errno != 0 || value == 0)
        quit(EXIT_USAGE, "not a size: %s", text);
    if (__builtin_mul_overflow(value, unit, &value) || value > SIZE_MOST)
        quit(EXIT_USAGE, "the size %s is larger than 64T", text);
    return value;
}

static void parse_uuid(const char *text, uint8_t uuid[16])
{
    static const uint8_t nil[16];

    if (!swap_uuid_parse(text, uuid))
        quit(EXIT_USAGE, "not a UUID: %s", text);
    if (memcmp(uuid, nil, sizeof(nil)) == 0)
        quit(EXIT_USAGE, "the nil UUID names no set: %s", text);
}

static void parse_member(const char *text, struct request *request)
{
    char *slash;
    char *end;
    unsigned long member = strtoul(text, &slash, 10);
    unsigned long members = *slash == '/' ? strtoul(slash + 1, &end, 10) : 0;

    if (text[0] < '1' || text[0] > '9' || members < 2 || slash[1] < '1' || slash[1] > '9' ||
        *end != '\0' || member > members || members > UINT16_MAX)
        quit(EXIT_USAGE, "not a place in a group, such as 1/2: %s", text);
    request->member = (uint32_t)member - 1;
    request->members = (uint32_t)members;
}

/* Parses the options of a set's group. Returns false for another option. */
static bool parse_set_option(int letter, struct request *request)
{
    switch (letter) {
    case 'r':
        request->role = strcmp(optarg, "mirror") == 0   ? SET_MIRROR
                        : strcmp(optarg, "stripe") == 0 ? SET_STRIPE
                                                        : SET_ALONE;
        if (request->role == SET_ALONE)
            quit(EXIT_USAGE, "not a role: %s", optarg);
        return true;
    case 'g':
        request->has_group = true;
        parse_uuid(optarg, request->group_uuid);
        return true;
    case 'i': parse_member(optarg, request); return true;
    default: return false;
    }
}

/* Stores an option's text at its first or its second place. */
static void put_text(const char **first, const char **second)
{
    if (*first != NULL && *second != NULL)
        quit(EXIT_USAGE, "an option is given three times: %s", optarg);
    *(*first == NULL ? first : second) = optarg;
}

/* Refuses options that do not belong together. */
static void check_group(const struct request *request)
{
    if (request->other != NULL) {
        if (request->role != SET_ALONE || request->members > 1 || request->has_uuid)
            quit(EXIT_USAGE,
                 "--mirror makes both sets itself: leave out --role, --member and --uuid");
        return;
    }
    if (request->other_serial != NULL || request->other_model != NULL)
        quit(EXIT_USAGE, "a second --serial or --model is for --mirror");
    if ((request->role != SET_ALONE) != request->has_group ||
        (request->role != SET_ALONE) != (request->members > 1))
        quit(EXIT_USAGE, "--role, --group and --member belong together");
    if (request->role == SET_MIRROR && request->members != 2)
        quit(EXIT_USAGE, "a mirror has two halves");
}

static struct request parse_arguments(int argc, char **argv)
{
    static const struct option options[] = {
        {"yes", no_argument, NULL, 'y'},          {"force", no_argument, NULL, 'f'},
        {"size", required_argument, NULL, 's'},   {"serial", required_argument, NULL, 'n'},
        {"model", required_argument, NULL, 'm'},  {"uuid", required_argument, NULL, 'u'},
        {"role", required_argument, NULL, 'r'},   {"group", required_argument, NULL, 'g'},
        {"member", required_argument, NULL, 'i'}, {"mirror", required_argument, NULL, 'o'},
        {"help", no_argument, NULL, 'h'},         {NULL, 0, NULL, 0}};
    struct request request = {.members = 1};
    int letter;

    while ((letter = getopt_long(argc, argv, "", options, NULL)) != -1) {
        switch (letter) {
        case 'y': request.yes = true; break;
        case 'f': request.force = true; break;
        case 's': request.size = parse_size(optarg); break;
        case 'n': put_text(&request.serial, &request.other_serial); break;
        case 'm': put_text(&request.model, &request.other_model); break;
        case 'o': request.other = optarg; break;
        case 'u':
            request.has_uuid = true;
            parse_uuid(optarg, request.uuid);
            break;
        case 'h':
            fputs(usage, stdout);
            flush_words(UNCHANGED);
            exit(EXIT_DONE);
        default:
            if (!parse_set_option(letter, &request)) {
                fputs(usage, stderr);
                exit(EXIT_USAGE);
            }
        }
    }
    check_group(&request);
    if (optind != argc - 1) {
        fputs(usage, stderr);
        exit(EXIT_USAGE);
    }
    request.target = argv[optind];
    return request;
}

/* Plans the work on one target. */
static void plan(struct job *job, const struct request *request)
{
    struct stat about;

    if (request->target == NULL)
        quit(EXIT_USAGE, "no target");
    job->disk_fd = job->write_fd = -1;
    if (stat(request->target, &about) != 0) {
        if (errno != ENOENT)
            quit(EXIT_SYSTEM, "cannot look at %s: %s", request->target, strerror(errno));
        plan_new_image(job, request);
    } else if (S_ISREG(about.st_mode)) {
        plan_image(job, request, &about);
    } else if (S_ISBLK(about.st_mode)) {
        plan_device(job, request, &about);
    } else {
        quit(EXIT_USAGE, "%s is neither a file nor a disk", request->target);
    }
    plan_header(job, request);
    say_plan(job, request);
}

/* Makes the requests for the halves of a mirror from that for both. */
static void split_request(struct request halves[2])
{
    struct request *first = &halves[0];
    struct request *second = &halves[1];

    if (strcmp(first->target, first->other) == 0)
        quit(EXIT_USAGE, "the halves of a mirror are two disks");
    if (!first->has_group)
        random_guid(first->group_uuid, 6);
    first->role = SET_MIRROR;
    first->members = 2;
    *second = *first;
    second->member = 1;
    second->target = first->other;
    second->serial = first->other_serial;
    if (first->other_model != NULL)
        second->model = first->other_model;
}

/* Refuses halves that the application would refuse together. */
static void check_halves(const struct job jobs[2])
{
    uint64_t slots[2] = {swap_header_slots(&jobs[0].header), swap_header_slots(&jobs[1].header)};

    if (slots[0] != slots[1])
        quit(EXIT_NOT_ALLOWED,
             "the halves of a mirror have one size, but these have %" PRIu64 " and %" PRIu64
             " pages",
             slots[0], slots[1]);
    if (strcmp(jobs[0].identity.serial, jobs[1].identity.serial) == 0)
        quit(EXIT_NOT_ALLOWED,
             "the halves of a mirror are two disks, but both have the serial "
             "number \"%s\"",
             jobs[0].identity.serial);
}

int main(int argc, char **argv)
{
    struct request requests[2];
    static struct job jobs[2];
    unsigned count;

    check_streams();
    requests[0] = parse_arguments(argc, argv);
    count = requests[0].other != NULL ? 2 : 1;
    make_frames();
    if (count == 2)
        split_request(requests);
    for (unsigned i = 0; i < count; i++)
        plan(&jobs[i], &requests[i]);
    if (count == 2)
        check_halves(jobs);
    for (unsigned i = 0; i < count; i++)
        ask_for_serial(&jobs[i], &requests[i]);
    if (!requests[0].yes) {
        printf("This was a dry run: nothing was changed. --yes does it.\n");
        flush_words(UNCHANGED);
        return EXIT_DONE;
    }
    for (unsigned i = 0; i < count; i++)
        perform(&jobs[i]);
    keep_created();
    printf("done\n");
    flush_words("done");
    return EXIT_DONE;
}
