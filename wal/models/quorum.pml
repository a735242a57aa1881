/*
 * One segment of a quorum log: a writer that may be a zombie, recoverers, replicas, and a network that loses, delays
 * and repeats. Entries are numbers 1, 2, ..., because a segment has one writer for life.
 *
 * The writer never looks at etcd, unless it seals. A message that is sent may take effect at any later time or never, so
 * "sent" is a number that only grows and every receiver may act on it late, twice or not at all. A recoverer may crash.
 * A replica may lose its disk; it then knows (it is in limbo) and takes no part.
 *
 * Parameters: N replicas, QA that make an entry acknowledged, COV replies that a recoverer waits for, WQ acks that the
 * writer waits for, MAXE entries, NREC recoverers, CRASH of them that may crash, LOSS disks that may be lost.
 * STALLONLY: more disks may be lost than the class survives; then nothing is asked but that no loss is silent: what is
 * sealed holds all that was acknowledged, or nothing is sealed. SAFETYONLY: RECOVERY_ENDS is not asked for.
 */
#ifndef N
#define N 3
#endif
#ifndef QA
#define QA 2
#endif
#ifndef COV
#define COV (N-QA+1)
#endif
#ifndef WQ
#define WQ QA
#endif
#ifndef MAXE
#define MAXE 2
#endif
#ifndef NREC
#define NREC 2
#endif
#ifndef CRASH
#define CRASH 1
#endif
#ifndef LOSS
#define LOSS (QA-1)
#endif

#define MUST(claim, cond) assert((cond) || claim)
hidden byte ACKED_IN_SEAL, ONE_SEAL, ACKED_SURVIVES, SEAL_READABLE, RECOVERY_ENDS;

#define OPEN 0
#define RECOVERING 1
#define SEALED 2
#define WRITER 1               /* the writer's epoch: the revision that made the record */

/* etcd: the stream's record */
byte meta; byte rev = WRITER; byte sealEnd; byte nseals;
/* committed objects hold entries 1..objects */
byte objects;
/* replicas: entries 1..acc are synced, promise, disk lost */
byte acc[N]; byte prom[N]; bit limbo[N]; byte losses;
/* writer */
byte sent; byte ackR[N]; byte acked;
byte wst;                      /* 0 appends, 1 waits for the outcome of its seal, 2 stopped */
bit sealSent; byte sealAt;     /* its seal is on its way, or was performed */
/* recoverers */
byte rst[NREC];                /* 0 idle, 1 fencing, 2 copied, 3 over, 4 crashed */
byte repEp[NREC]; byte endR[NREC]; byte crashes;
bit frep[NREC*N]; byte ftail[NREC*N];

#ifdef M_GAP                   /* a replica takes entry 2 without entry 1 and says that it has 2 */
bit gap[N];
#define HOLDS(r, n) (!limbo[r] && acc[r] >= (n) && !gap[r])
#else
#define HOLDS(r, n) (!limbo[r] && acc[r] >= (n))
#endif
#define MAX(a, b) ((a) > (b) -> (a) : (b))
#define MIN(a, b) ((a) < (b) -> (a) : (b))
#define LIVE(k, r) (frep[k*N+r] && !limbo[r])
#define TAIL(k, r) (LIVE(k, r) -> ftail[k*N+r] : 0)
#define ANYTAIL(k, r) (ftail[k*N+r])
#if N == 1
#define ALL(f, k) f(k,0)
#define SUM(f, k) (f(k,0))
#define LIVECOUNT(k) (LIVE(k,0))
#define REPLIES(k) (frep[k*N])
#define LONGEST(f, k) (f(k,0))
#define HELD(n) (HOLDS(0,n))
#define ENOUGH(n) ((ackR[0]>=(n)) >= WQ)
#elif N == 2
#define LIVECOUNT(k) (LIVE(k,0)+LIVE(k,1))
#define REPLIES(k) (frep[k*N]+frep[k*N+1])
#define LONGEST(f, k) MAX(f(k,0), f(k,1))
#define HELD(n) (HOLDS(0,n) || HOLDS(1,n))
#define ENOUGH(n) ((ackR[0]>=(n))+(ackR[1]>=(n)) >= WQ)
#elif N == 3
#define LIVECOUNT(k) (LIVE(k,0)+LIVE(k,1)+LIVE(k,2))
#define REPLIES(k) (frep[k*N]+frep[k*N+1]+frep[k*N+2])
#define LONGEST(f, k) MAX(MAX(f(k,0), f(k,1)), f(k,2))
#define HELD(n) (HOLDS(0,n) || HOLDS(1,n) || HOLDS(2,n))
#define ENOUGH(n) ((ackR[0]>=(n))+(ackR[1]>=(n))+(ackR[2]>=(n)) >= WQ)
#else
#define LIVECOUNT(k) (LIVE(k,0)+LIVE(k,1)+LIVE(k,2)+LIVE(k,3))
#define REPLIES(k) (frep[k*N]+frep[k*N+1]+frep[k*N+2]+frep[k*N+3])
#define LONGEST(f, k) MAX(MAX(f(k,0), f(k,1)), MAX(f(k,2), f(k,3)))
#define HELD(n) (HOLDS(0,n) || HOLDS(1,n) || HOLDS(2,n) || HOLDS(3,n))
#define ENOUGH(n) ((ackR[0]>=(n))+(ackR[1]>=(n))+(ackR[2]>=(n))+(ackR[3]>=(n)) >= WQ)
#endif

#ifdef STALLONLY
#define SURVIVAL
#else
#define SURVIVAL \
    MUST(ACKED_SURVIVES, acked == 0 || objects >= acked || HELD(acked)); \
    MUST(SEAL_READABLE, meta != SEALED || sealEnd == 0 || objects >= sealEnd || HELD(sealEnd));
#endif
inline CHECK() {
    MUST(ACKED_IN_SEAL, meta != SEALED || acked <= sealEnd); /* however late the zombie acknowledges */
    MUST(ONE_SEAL, nseals <= 1);
    SURVIVAL
}

/* Mutations: each takes one rule away. */
#ifdef M_NOFENCECHECK          /* a replica takes entries of a writer whom it promised to refuse */
#define ACCEPTS(r) true
#else
#define ACCEPTS(r) (prom[r] <= WRITER)
#endif
#ifdef M_ACKBEFORESYNC         /* a replica answers before the entry is synced, and the entry never gets there */
#define ACKABLE(r) (ackR[r] < sent && ACCEPTS(r))
#define ACKED(r) (ackR[r] + 1)
#else
#define ACKABLE(r) (ackR[r] < acc[r])
#define ACKED(r) acc[r]
#endif
#ifdef M_GAP
#define SKIP(r) :: d_step { !limbo[r] && acc[r] == 0 && sent >= 2 && ACCEPTS(r) -> acc[r] = 2; gap[r] = 1 }
#else
#define SKIP(r)
#endif
#ifdef M_NOLIMBO               /* a lost disk is taken for an empty one */
#define LOSE(r) skip
#else
#define LOSE(r) limbo[r] = 1
#endif
#ifdef M_READNOFENCE           /* a recoverer reads tails and asks for no promise */
#define PROMISE(k, r) skip
#else
#define PROMISE(k, r) prom[r] = repEp[k]
#endif
#ifdef M_VOLATILEPROMISE       /* a promise does not outlive the replica's process */
#define RESTART(r) :: d_step { prom[r] > 0 -> prom[r] = 0 }
#else
#define RESTART(r)
#endif
#ifdef M_SHORTEST              /* a recoverer ends the log at the shortest tail of those that replied */
#define LOW(k, r) (LIVE(k, r) -> ftail[k*N+r] : 99)
#define END(k) MIN(MIN(LOW(k,0), LOW(k,1)), LOW(k,2))
#define ENDALL(k) END(k)
#else
#define END(k) LONGEST(TAIL, k)
#define ENDALL(k) LONGEST(ANYTAIL, k)
#endif
#ifdef M_NOCOPY                /* a recoverer seals without a copy */
#define COPY(n) skip
#else
#define COPY(n) objects = MAX(objects, n)
#endif
#ifdef M_NOCAS                 /* a recoverer seals whatever the record says */
#define MINE(k) true
#else
#define MINE(k) (meta == RECOVERING && rev == repEp[k])
#endif
#ifdef M_NORECOUNT             /* a recoverer never asks again when a replica dies after its reply */
#define RECOUNT(k) false
#else
#define RECOUNT(k) (LIVECOUNT(k) >= COV && READABLE(END(k)))
#endif
#ifdef M_ACKWHILESEALING       /* the writer acknowledges while its seal is on its way */
#define ACKS (wst <= 1)
#else
#define ACKS (wst == 0)
#endif
#define READABLE(n) ((n) == 0 || objects >= (n) || HELD(n))

#define REPLICA(r) \
    :: d_step { !limbo[r] && acc[r] < sent && ACCEPTS(r) -> acc[r]++ } \
    :: d_step { !limbo[r] && wst != 2 && ACKABLE(r) -> ackR[r] = ACKED(r) } \
    :: d_step { losses < LOSS && !limbo[r] && (acc[r] > 0 || prom[r] > 0) -> losses++; acc[r] = 0; prom[r] = 0; LOSE(r); CHECK() } \
    SKIP(r) RESTART(r)

/* The reply carries what the replica holds when the promise is durable; it may be lost together with its replica later. */
#define FENCE(k, r) \
    :: d_step { rst[k] == 1 && !frep[k*N+r] && !limbo[r] && prom[r] <= repEp[k] -> \
         PROMISE(k, r); frep[k*N+r] = 1; ftail[k*N+r] = acc[r] }

/* A recoverer goes on with all replies, also of replicas that died since, or with those that still answer. */
#define RECOVERER(k) \
    :: d_step { rst[k] == 0 && meta != SEALED -> meta = RECOVERING; rev++; repEp[k] = rev; rst[k] = 1 } \
    :: d_step { rst[k] == 1 && REPLIES(k) >= COV && READABLE(ENDALL(k)) -> endR[k] = ENDALL(k); COPY(endR[k]); rst[k] = 2 } \
    :: d_step { rst[k] == 1 && RECOUNT(k) -> endR[k] = END(k); COPY(endR[k]); rst[k] = 2 } \
    :: d_step { rst[k] == 2 -> rst[k] = 3; if :: MINE(k) -> meta = SEALED; rev++; sealEnd = endR[k]; nseals++; CHECK() :: else fi; endR[k] = 0 } \
    :: d_step { (rst[k] == 1 || rst[k] == 2) && crashes < CRASH -> crashes++; rst[k] = 4; endR[k] = 0 }

init {
    do
    /* append, acknowledge */
    :: d_step { wst == 0 && sent < MAXE -> sent++ }
    :: d_step { ACKS && acked < sent && ENOUGH(acked+1) -> acked++; CHECK() }
    /* orderly stop: freeze acks, ask etcd to seal at the acknowledged end; the request may be performed late */
    :: d_step { wst == 0 && !sealSent && sent > 0 -> wst = 1; sealSent = 1; sealAt = acked }
    :: d_step { sealSent && meta == OPEN && rev == WRITER -> meta = SEALED; rev++; sealEnd = sealAt; nseals++; CHECK() }
    :: d_step { wst == 1 && rev != WRITER -> wst = 2 } /* it learns the outcome: sealed, or fenced */
#ifdef M_READANDRESUME         /* no answer: it reads the record, finds it unchanged and goes on */
    :: d_step { wst == 1 && rev == WRITER -> wst = 0 }
#endif
    REPLICA(0)
#if N > 1
    REPLICA(1)
#endif
#if N > 2
    REPLICA(2)
#endif
#if N > 3
    REPLICA(3)
#endif
#define FENCES0(k) FENCE(k,0)
#if N > 1
#define FENCES1(k) FENCE(k,1)
#else
#define FENCES1(k)
#endif
#if N > 2
#define FENCES2(k) FENCE(k,2)
#else
#define FENCES2(k)
#endif
#if N > 3
#define FENCES3(k) FENCE(k,3)
#else
#define FENCES3(k)
#endif
    RECOVERER(0) FENCES0(0) FENCES1(0) FENCES2(0) FENCES3(0)
#if NREC > 1
    RECOVERER(1) FENCES0(1) FENCES1(1) FENCES2(1) FENCES3(1)
#endif
#if NREC > 2
    RECOVERER(2) FENCES0(2) FENCES1(2) FENCES2(2) FENCES3(2)
#endif
    :: else -> break
    od;
#define HELDBYCRASHED(k) (rst[k] == 4 && rev == repEp[k])
#if !defined(STALLONLY) && !defined(SAFETYONLY)
    /* Nothing can happen any more: who recovers, and was not overtaken and did not crash, has sealed. */
#if NREC == 1
    MUST(RECOVERY_ENDS, meta == SEALED || HELDBYCRASHED(0))
#elif NREC == 2
    MUST(RECOVERY_ENDS, meta == SEALED || HELDBYCRASHED(0) || HELDBYCRASHED(1))
#else
    MUST(RECOVERY_ENDS, meta == SEALED || HELDBYCRASHED(0) || HELDBYCRASHED(1) || HELDBYCRASHED(2))
#endif
#endif
}
