/*
 * One partition moves between writers. A writer is a broker's incarnation with its stream; each may be a zombie: it learns of
 * nothing that it does not ask etcd. Of a stream it is taken for granted what quorum.pml shows: entries are acknowledged in
 * order, none is once the stream is fenced, and the fence chooses any end at or above what was acknowledged.
 *
 * A partition leaves its owner (a) when the owner pauses it, waits until all that it appended is committed in objects, and
 * releases it in a transaction that names the new owner with the next leader epoch, or (b) when the owner's stream is fenced,
 * drained and sealed by somebody else and the partition is taken from it. A request to etcd may be performed at any time after it was sent.
 * A writer may crash or be taken for dead at any step (FAULTS); a recovery that crashes is done again by another (quorum.pml).
 *
 * One idempotent producer has records 1, 2, ... and sends any of them at any time to anybody, so that record n belongs at offset
 * n-1, once. One consumer reads from anybody who believes that it owns the partition, and committed objects through any broker;
 * it does not tell a leader epoch.
 *
 * Parameters: NW writers, MAXO records, MOVES: no move by (a) is begun once the leader epoch is this, FAULTS, ABSORB: the owner
 * makes manifests of the objects and deletes the pending ones.
 */
#ifndef NW
#define NW 2
#endif
#ifndef MAXO
#define MAXO 3
#endif
#ifndef MOVES
#define MOVES 3
#endif
#ifndef FAULTS
#define FAULTS 1
#endif
#define K 2                    /* entries of a stream that are not committed, at most */

#define MUST(claim, cond) assert((cond) || claim)
hidden byte NOTHING_LOST, NO_OFFSET_TWICE, EXACTLY_ONCE, READ_IN_LOG, NO_FALSE_RANGE, MOVE_ENDS;

#define NONE 0                 /* not created */
#define OPEN 1
#define RECOVERING 2
#define SEALED 3

/* etcd: the partition (manifest: end of what it names), the streams, committed objects (pending ones hold absorbed..end) */
byte owner; byte epoch = 1; byte manifest;
byte st[NW];
byte clog[MAXO]; byte end; byte absorbed;
/* a stream's entries that are not committed: offset and content; the first ak[w] are acknowledged */
byte n[NW]; byte ak[NW]; byte eo[NW*K]; byte ec[NW*K]; bit fenced[NW];
/* what a writer believes: its leader epoch (0: not the owner), next offset, high watermark, last sequence number, end of its own commits */
byte own[NW]; byte next[NW]; byte hw[NW]; byte pseq[NW]; byte cm[NW]; bit paused[NW];
byte opening[NW]; byte oldManifest[NW];  /* leader epoch and manifest as it read them */
bit dead[NW]; bit suspect[NW]; byte faults;
/* requests on their way */
byte cq[NW];                             /* commit so many entries */
byte rel[NW]; byte relTo[NW];            /* release leader epoch rel */
byte tkE; byte tkFrom; byte tkTo;        /* take, of leader epoch tkE */
byte ab[NW]; byte abE[NW];               /* point at a manifest with this end, as leader epoch abE */
/* seen from outside: what was acknowledged at an offset, and where the consumer is */
byte al[MAXO]; byte pos;
#if defined(M_STALEIMAGE) || defined(M_STALEMANIFEST)
byte seen[NW];
#endif
#ifdef M_STALEOFFSET
byte old[NW];
#endif
hidden byte j;

/* Records are told apart by the sequence number and the leader epoch under which they were appended. */
#define RECORD(ep, seq) ((ep)*4 + (seq))
#define SEQ(c) ((c) & 3)
#define EP(c) ((c) >> 2)

#define T(w, i, o) (n[w] > i && eo[(w)*K+i] == o && ec[(w)*K+i] == al[o])
/* at offset o: not acknowledged, committed, or in the tail of who owns the partition */
#define KEPT(o) (al[o] == 0 || (o < end && clog[o] == al[o]) || (EP(al[o]) == epoch && (T(owner, 0, o) || T(owner, 1, o))))
#if MAXO == 2
#define ALLKEPT (KEPT(0) && KEPT(1))
#else
#define ALLKEPT (KEPT(0) && KEPT(1) && KEPT(2))
#endif
inline CHECK() { MUST(NOTHING_LOST, ALLKEPT) }

/* An object is committed with the first cnt entries of w's stream. */
inline COMMIT(w, cnt) {
    j = cnt;
    do
    :: j > 0 ->
        MUST(NO_OFFSET_TWICE, eo[w*K] == end);
        MUST(EXACTLY_ONCE, SEQ(ec[w*K]) == end + 1);
        clog[end] = ec[w*K]; end++;
        eo[w*K] = eo[w*K+1]; ec[w*K] = ec[w*K+1]; eo[w*K+1] = 0; ec[w*K+1] = 0;
        n[w]--; ak[w] = (ak[w] > 0 -> ak[w] - 1 : 0); j--
    :: else -> break
    od
}
inline FORGET(w) { own[w] = 0; next[w] = 0; hw[w] = 0; pseq[w] = 0; cm[w] = 0; paused[w] = 0; opening[w] = 0; oldManifest[w] = 0 }

/* Mutations: each takes one rule away. */
#ifdef M_NOPAUSE               /* append while the release is on its way */
#define APPENDS(w) true
#else
#define APPENDS(w) (!paused[w])
#endif
#ifdef M_RELEASEUNCOMMITTED    /* release when all is acknowledged, though not in objects */
#define DRAINED(w) (n[w] == ak[w])
#elif defined(M_RELEASEINFLIGHT) /* release when all that is acknowledged is in objects, though entries are still on their way into the stream */
#define DRAINED(w) (cm[w] == hw[w])
#else
#define DRAINED(w) (cm[w] == next[w])
#endif
#ifdef M_RELEASENOEPOCH        /* the release compares the owner, but not the leader epoch */
#define RELEASEOK(w) (owner == w && epoch < MOVES)
#define SPENT(w) skip
#elif defined(WITHSTREAM)      /* it also compares that the stream is still OPEN: not needed */
#define RELEASEOK(w) (owner == w && epoch == rel[w] && st[w] == OPEN)
#define SPENT(w) rel[w] = 0; relTo[w] = 0
#else
#define RELEASEOK(w) (owner == w && epoch == rel[w])
#define SPENT(w) rel[w] = 0; relTo[w] = 0
#endif
#ifdef M_READANDRESUME         /* no answer: it reads the partition, finds it unchanged and goes on */
#define RESUME(w) :: d_step { !dead[w] && rel[w] != 0 && paused[w] && owner == w && epoch == own[w] -> paused[w] = 0 }
#else
#define RESUME(w)
#endif
#ifdef M_TAKENOTSEALED         /* take while the stream is being recovered */
#define GONE(w) (st[w] != OPEN)
#else
#define GONE(w) (st[w] == SEALED || st[w] == NONE)
#endif
#ifdef M_TAKENOEPOCH           /* the take does not compare the leader epoch: a repeated or a second one is performed too */
#define TAKEOK (epoch < MOVES + 2 && GONE(tkFrom))
#define TAKEN skip
#elif defined(M_TAKENOSTREAM)  /* the take does not compare the streams that it saw sealed or not created */
#define TAKEOK (epoch == tkE)
#define TAKEN tkE = 0; tkFrom = 0; tkTo = 0
#else
#define TAKEOK (epoch == tkE && GONE(tkFrom))
#define TAKEN tkE = 0; tkFrom = 0; tkTo = 0
#endif
#ifdef M_SAMEEPOCH             /* a move does not raise the leader epoch */
#define RAISE skip
#define MOVED(w) (owner != w)
#else
#define RAISE epoch++
#define MOVED(w) (owner != w || epoch != own[w])
#endif
#ifdef M_OPENBEFORESTREAM      /* it reads the partition before its own stream is recorded */
#define CREATED(w) true
#else
#define CREATED(w) (st[w] != NONE)
#endif
#ifdef M_STALEOFFSET           /* who has owned it before goes on with the next offset that it had then */
#define SEESGAP(w) false
#define ATOPEN(w) (old[w] != 0 -> old[w] : end)
#define REMEMBER(w) old[w] = next[w]
#define LOOK(w)
#elif defined(M_STALEIMAGE)    /* the end of the log is of an image older than the record that names it the owner */
#define SEESGAP(w) false
#define ATOPEN(w) seen[w]
#define REMEMBER(w) skip
#define LOOK(w) :: d_step { seen[w] != end && own[w] == 0 -> seen[w] = end }
#else
/* it has the manifest, and then lists the pending objects: those between may be gone */
#define SEESGAP(w) (oldManifest[w] < absorbed && absorbed < end)
#define ATOPEN(w) (oldManifest[w] < absorbed -> oldManifest[w] : end)
#define REMEMBER(w) skip
#ifdef M_STALEMANIFEST         /* the manifest is of an image older than the record that names it the owner */
#define LOOK(w) :: d_step { seen[w] != manifest && own[w] == 0 -> seen[w] = manifest }
#else
#define LOOK(w)
#endif
#endif
#ifdef M_STALEMANIFEST
#define MANIFEST(w) seen[w]
#else
#define MANIFEST(w) manifest
#endif
#ifdef M_NOPRODUCERSTATE       /* the new owner knows no producers, and takes whatever comes as the first of its producer */
#define PRODUCERS(at) 0
#else
#define PRODUCERS(at) ((at) == 0 -> 0 : SEQ(clog[(at)-1]))
#endif
#ifdef M_DUPLICATEEARLY        /* a repeated record is acknowledged although the first one is still on its way into the stream */
#define REPEAT(w) :: d_step { !dead[w] && !fenced[w] && ak[w] < n[w] && al[eo[w*K+ak[w]]] == 0 -> al[eo[w*K+ak[w]]] = ec[w*K+ak[w]]; CHECK() }
#else
#define REPEAT(w)
#endif
#ifdef M_NODRAIN               /* sealed and not drained: the tail is left for later */
#define DRAIN(w) skip
#else
#define DRAIN(w) COMMIT(w, n[w])
#endif
#ifdef M_READUNACKED           /* consumers see what is not acknowledged */
#define READTO(w) next[w]
#else
#define READTO(w) hw[w]
#endif
#ifdef M_RANGEUNCONFIRMED      /* an offset above the end is called out of range without a look into etcd */
#define CONFIRMED(w) true
#elif defined(M_RANGENOSTREAM) /* it looks at the partition only, and not whether its stream is still OPEN */
#define CONFIRMED(w) (owner == w && epoch == own[w])
#else
#define CONFIRMED(w) (owner == w && epoch == own[w] && st[w] == OPEN)
#endif
#ifdef M_ABSORBNOEPOCH         /* the swap of the manifest compares its generation, but not the leader epoch */
#define ABSORBOK(w) (manifest < ab[w])
#else
#define ABSORBOK(w) (owner == w && epoch == abE[w] && manifest < ab[w])
#endif

#ifdef ABSORB
#define ABSORBER(w) \
    :: d_step { !dead[w] && own[w] != 0 && ab[w] == 0 && cm[w] > 0 -> ab[w] = cm[w]; abE[w] = own[w] } \
    :: d_step { ab[w] != 0 -> if :: ABSORBOK(w) -> manifest = ab[w] :: else fi; ab[w] = 0; abE[w] = 0 } \
    :: d_step { absorbed < manifest && !dead[w] -> absorbed = manifest }
#else
#define ABSORBER(w)
#endif

#define WRITER(w) \
    :: d_step { st[w] == NONE && !dead[w] -> st[w] = OPEN } \
    /* append, acknowledge, upload and commit what is acknowledged */ \
    :: d_step { !dead[w] && own[w] != 0 && APPENDS(w) && !fenced[w] && n[w] < K && next[w] < MAXO -> \
         pseq[w]++; eo[w*K+n[w]] = next[w]; ec[w*K+n[w]] = RECORD(own[w], pseq[w]); n[w]++; next[w]++ } \
    :: d_step { !dead[w] && ak[w] < n[w] && !fenced[w] -> \
         j = eo[w*K+ak[w]]; MUST(NO_OFFSET_TWICE, al[j] == 0 || al[j] == ec[w*K+ak[w]]); al[j] = ec[w*K+ak[w]]; ak[w]++; \
         hw[w] = (own[w] != 0 -> j + 1 : 0); CHECK() } \
    REPEAT(w) \
    :: d_step { !dead[w] && cq[w] == 0 && ak[w] > 0 -> cq[w] = ak[w] } \
    :: d_step { cq[w] != 0 -> if :: st[w] == OPEN -> if :: own[w] != 0 -> cm[w] = cm[w] + cq[w] :: else fi; COMMIT(w, cq[w]); CHECK() :: else fi; cq[w] = 0 } \
    /* (a) pause, drain, release; it goes on only when it knows that it is no owner any more */ \
    :: d_step { !dead[w] && own[w] != 0 && !paused[w] && epoch < MOVES && rel[w] == 0 -> paused[w] = 1 } \
    RELEASE(w) \
    :: d_step { rel[w] != 0 -> if :: RELEASEOK(w) -> owner = relTo[w]; RAISE; CHECK() :: else fi; SPENT(w) } \
    RESUME(w) \
    :: d_step { !dead[w] && own[w] != 0 && MOVED(w) -> REMEMBER(w); FORGET(w) } \
    /* it learns that it is the owner, and opens the partition */ \
    LOOK(w) \
    :: d_step { !dead[w] && own[w] == 0 && opening[w] == 0 && owner == w && CREATED(w) -> opening[w] = epoch; oldManifest[w] = MANIFEST(w) } \
    :: d_step { !dead[w] && opening[w] != 0 && st[w] != NONE -> \
         if \
         :: SEESGAP(w) -> opening[w] = 0 \
         :: else -> own[w] = opening[w]; opening[w] = 0; next[w] = ATOPEN(w); hw[w] = next[w]; cm[w] = next[w]; pseq[w] = PRODUCERS(next[w]) \
         fi; oldManifest[w] = 0 } \
    ABSORBER(w) \
    /* a consumer */ \
    :: d_step { !dead[w] && own[w] != 0 && pos < READTO(w) -> MUST(READ_IN_LOG, pos < end || al[pos] != 0); pos++ } \
    :: d_step { !dead[w] && own[w] != 0 && pos > READTO(w) && CONFIRMED(w) -> MUST(NO_FALSE_RANGE, false) } \
    /* faults */ \
    :: d_step { faults < FAULTS && !dead[w] && !suspect[w] -> faults++; dead[w] = 1; suspect[w] = 1; FORGET(w) } \
    :: d_step { faults < FAULTS && !suspect[w] -> faults++; suspect[w] = 1 } \
    /* (b) fence, drain, seal */ \
    :: d_step { suspect[w] && st[w] == OPEN -> st[w] = RECOVERING } \
    :: d_step { st[w] == RECOVERING && !fenced[w] && ak[w] <= 0 -> fenced[w] = 1; n[w] = 0; CUT(w) } \
    :: d_step { st[w] == RECOVERING && !fenced[w] && ak[w] <= 1 && n[w] >= 1 -> fenced[w] = 1; n[w] = 1; CUT(w) } \
    :: d_step { st[w] == RECOVERING && !fenced[w] && n[w] >= 2 -> fenced[w] = 1 } \
    :: d_step { st[w] == RECOVERING && fenced[w] -> DRAIN(w); st[w] = SEALED; CHECK() }
#define CUT(w) \
    if :: n[w] < 1 -> eo[w*K] = 0; ec[w*K] = 0 :: else fi; \
    eo[w*K+1] = 0; ec[w*K+1] = 0
#define RELEASES(w, t) :: d_step { !dead[w] && own[w] != 0 && paused[w] && DRAINED(w) && cq[w] == 0 && rel[w] == 0 -> rel[w] = own[w]; relTo[w] = t }
#define TAKES(w, t) :: d_step { tkE == 0 && suspect[w] && owner == w && GONE(w) && !suspect[t] -> tkE = epoch; tkFrom = w; tkTo = t }
#if NW == 2
#define RELEASE(w) RELEASES(w, 1-w)
#else
#define RELEASE(w) RELEASES(w, (w+1)%3) RELEASES(w, (w+2)%3)
#endif

init {
    st[0] = OPEN;
    do
    WRITER(0)
    WRITER(1)
    TAKES(0, 1)
    TAKES(1, 0)
#if NW == 3
    WRITER(2)
    TAKES(0, 2)
    TAKES(1, 2)
    TAKES(2, 0)
    TAKES(2, 1)
#endif
    :: d_step { pos < end -> pos++ } /* the consumer reads objects through any broker */
    :: d_step { tkE != 0 -> if :: TAKEOK -> owner = tkTo; RAISE; CHECK() :: else fi; TAKEN }
    :: else -> break
    od;
    /* Nothing can happen any more: somebody who lives, and whose stream is open, serves the partition. */
    MUST(MOVE_ENDS, own[owner] == epoch && !dead[owner] && st[owner] == OPEN)
}
