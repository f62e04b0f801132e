/* System calls that lend, give and revoke memory. */
#include "cpu/trap/probe.h"
#include "vmm/flex/flex.h"
#include "vmm/program/program.h"

/* Decodes rights. Returns false if unknown bits are set, or no access is among other rights. */
static bool parse_lent_rights(uint64_t flags, struct rights *rights)
{
    *rights = (struct rights){.write = (flags & PROGRAM_MAP_WRITE) != 0,
                              .execute = (flags & PROGRAM_MAP_EXECUTE) != 0,
                              .user = true};
    if (flags == PROGRAM_MAP_NONE)
        *rights = (struct rights){.none = true};
    return flags <= (PROGRAM_MAP_WRITE | PROGRAM_MAP_EXECUTE) || flags == PROGRAM_MAP_NONE;
}

/* Returns the peer that a request names, if its target lies where the program may lend to. */
static const struct program_peer *peer_of(const struct program *program,
                                          const struct program_lend *lend)
{
    const struct program_peer *peer;

    if (lend->peer >= program->peer_count)
        return NULL;
    peer = &program->peers[lend->peer];
    CHECK(peer->space != NULL && peer->start <= peer->end);
    return lend->at >= peer->start && lend->at <= peer->end && lend->size <= peer->end - lend->at
               ? peer
               : NULL;
}

enum status program_lend(const struct program *program, const struct trap_frame *frame)
{
    const struct program_peer *peer;
    struct program_lend lend;
    struct rights rights;

    if (!user_copy_in(&lend, frame->rdi, sizeof(lend), NULL) ||
        !parse_lent_rights(lend.rights, &rights))
        return STATUS_RANGE;
    peer = peer_of(program, &lend);
    if (peer == NULL)
        return STATUS_DENIED;
    if (frame->rax == PROGRAM_GIVE)
        return flex_give(program->space, lend.start, lend.size, peer->space, lend.at, rights);
    return flex_lend(program->space, lend.start, lend.size, peer->space, lend.at, rights);
}

enum status program_revoke(const struct program *program, const struct trap_frame *frame)
{
    bool own = (frame->rdx & PROGRAM_REVOKE_OWN) != 0;
    struct flex_taken taken;
    struct rights keep;
    enum status status;

    if (!parse_lent_rights(frame->rdx & ~(uint64_t)PROGRAM_REVOKE_OWN, &keep))
        return STATUS_RANGE;
    status = flex_revoke(program->space, frame->rdi, frame->rsi, keep, own, &taken);
    if (status != OK)
        return status;
    return (enum status)((taken.accessed ? PROGRAM_ACCESSED : 0) |
                         (taken.dirty ? PROGRAM_WRITTEN : 0));
}
