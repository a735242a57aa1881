/*
 * The ensemble of a stream changes in place while its owner, node 0, writes. Nodes 1..3 may be members; an ensemble has at most N=3, and QA=2 must
 * hold what is acknowledged, the owner always among them. It starts with the owner alone. The stream's record and the ensemble's are two keys of etcd;
 * a change compares both, and only the owner changes the ensemble. What is committed to the object store is acknowledged too, in a transaction that compares
 * the stream's record. A request to etcd may be performed at any time after it was sent.
 *
 * One disk may be lost (LOSS), the owner's too. A recoverer comes at any time; the owner may be a zombie then. Appends and acks as in quorum.pml,
 * without the network between: what a replica has synced, the writer may learn at any later time.
 */
#ifndef MAXE
#define MAXE 2
#endif
#ifndef LOSS
#define LOSS 1
#endif
#define QA 2
#define MUST(claim, cond) assert((cond) || claim)
hidden byte ACKED_IN_SEAL, ACKED_SURVIVES;

byte acc[4]; byte ackR[4]; bit prom[4]; bit limbo[4]; byte losses;
bit opened[4];                    /* the writer knows that the replica is there */
byte acked; byte cm; byte s3;     /* acknowledged; committed; readable in objects */
byte ens = 1; byte meta;          /* etcd: bit j of ens is member j; 0 OPEN, 1 RECOVERING, 2 SEALED */
byte wens = 1; byte next; bit frozen; bit pend; bit applied; bit stop;
byte rst; byte rens; bit rep[4]; byte tail[4]; byte fin;
hidden byte c; hidden byte e; hidden byte q; hidden byte ok;

#define IN(j, m) (((m) >> (j)) & 1)
#define SIZE(m) (IN(0,m) + IN(1,m) + IN(2,m) + IN(3,m))
/* remote members of m that are known to hold n */
#define HOLD(m, n) ((IN(1,m) && ackR[1] >= (n)) + (IN(2,m) && ackR[2] >= (n)) + (IN(3,m) && ackR[3] >= (n)))

inline CHECK() {
    MUST(ACKED_IN_SEAL, !(meta == 2 && acked > fin));
    ok = (s3 >= acked || (!limbo[0] && acc[0] >= acked) || (!limbo[1] && acc[1] >= acked) || (!limbo[2] && acc[2] >= acked) || (!limbo[3] && acc[3] >= acked));
    MUST(ACKED_SURVIVES, ok)
}

#ifdef M_ACKWHILECHANGING      /* acknowledge, by the old ensemble, while the change is under way */
#define MAYACK true
#else
#define MAYACK (!frozen)
#endif
#ifdef M_NOTREADY              /* change although too few of the next members hold what was acknowledged */
#define READY true
#elif defined(M_SHRINK)        /* go below the quorum although not all that was acknowledged is committed */
#define READY (acked <= cm || HOLD(next, acked) >= QA-1 || SIZE(next) < QA)
#else
#define READY (acked <= cm || HOLD(next, acked) >= QA-1)
#endif
#ifdef M_NOLIMBO
#define COUNTS(j) true
#else
#define COUNTS(j) (!limbo[j])
#endif
#define NODE(j) \
    :: d_step { !stop && !opened[j] && !limbo[j] && !IN(j, ens) && !IN(j, wens) && !prom[j] -> opened[j] = 1; acc[j] = cm; ackR[j] = cm } \
    :: d_step { !stop && opened[j] && !limbo[j] && !prom[j] && acc[j] < acc[0] -> acc[j]++ } \
    :: d_step { !limbo[j] && ackR[j] < acc[j] -> ackR[j] = acc[j] } \
    /* who is no member and not about to be one is forgotten */ \
    :: d_step { opened[j] && !IN(j, ens) && !IN(j, wens) && !(frozen && IN(j, next)) && !pend && meta == 0 -> opened[j] = 0; acc[j] = 0; ackR[j] = 0 } \
    :: d_step { losses < LOSS && !limbo[j] && acc[j] > 0 -> losses++; limbo[j] = 1; acc[j] = 0; CHECK() }
#define PROPOSE(m) \
    :: d_step { !stop && !frozen && !pend && wens != m && (!IN(1,m) || opened[1]) && (!IN(2,m) || opened[2]) && (!IN(3,m) || opened[3]) -> frozen = 1; next = m }
#define FENCE(j) \
    :: d_step { rst == 1 && IN(j, rens) && !rep[j] && COUNTS(j) -> prom[j] = 1; rep[j] = 1; tail[j] = acc[j]; \
        if :: j == 0 -> stop = 1 :: else fi }

init {
    end: do
    :: d_step { !stop && acc[0] < MAXE -> acc[0]++ }
    :: d_step { losses < LOSS && !limbo[0] && acc[0] > 0 -> losses++; limbo[0] = 1; acc[0] = 0; stop = 1; CHECK() }
    :: d_step { !stop && MAYACK && acked < acc[0] && HOLD(wens, acked+1) >= QA-1 -> acked++; CHECK() }
    /* commit to the object store, and acknowledge by that */
    :: d_step { !stop && meta == 0 && cm < acc[0] -> cm++; s3 = cm }
    :: d_step { !stop && acked < cm -> acked = cm; CHECK() }
    /* change the ensemble */
    PROPOSE(1) PROPOSE(3) PROPOSE(5) PROPOSE(7) PROPOSE(11) PROPOSE(13)
    :: d_step { frozen && !pend && !applied && !stop -> frozen = 0 }
    :: d_step { frozen && !pend && !applied && !stop && READY -> pend = 1 }
    :: d_step { pend && meta == 0 -> ens = next; pend = 0; applied = 1 }
    :: d_step { pend && meta != 0 -> pend = 0; stop = 1 }
    :: d_step { applied && !stop -> wens = next; frozen = 0; applied = 0 }
#ifdef M_READANDRESUME         /* no answer, and the record is unchanged: go on with the old ensemble */
    :: d_step { pend && frozen && ens == wens && !stop -> frozen = 0 }
#endif
    NODE(1) NODE(2) NODE(3)
    /* recover */
#ifdef M_READFIRST             /* the recoverer reads the ensemble before its swap */
    :: d_step { rst == 0 && rens == 0 -> rens = ens }
    :: d_step { rst == 0 && rens != 0 -> meta = 1; rst = 1 }
#else
    :: d_step { rst == 0 -> meta = 1; rst = 1; rens = ens }
#endif
    FENCE(0) FENCE(1) FENCE(2) FENCE(3)
    :: d_step { rst == 1 && SIZE(rens) < QA -> s3 = cm; fin = cm; meta = 2; rst = 2; CHECK() }
    :: d_step { rst == 1 && SIZE(rens) >= QA -> c = 0; e = cm; q = 0;
        do :: q < 4 -> if :: rep[q] && COUNTS(q) -> c++; e = (tail[q] > e -> tail[q] : e) :: else fi; q++ :: else -> break od;
        ok = (e <= cm); q = 0;
        do :: q < 4 -> if :: rep[q] && !limbo[q] && acc[q] >= e -> ok = 1 :: else fi; q++ :: else -> break od;
        if :: c >= SIZE(rens)-QA+1 && ok -> s3 = e; fin = e; meta = 2; rst = 2; CHECK() :: else fi }
    od
}
