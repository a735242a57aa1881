/*
 * The object class: acknowledged when the object is put and its index is committed in etcd by a transaction that compares the
 * stream's revision. A writer that may be a zombie, two recoverers. The store and etcd are each linearizable; a put may take
 * effect arbitrarily late. Objects are numbers 1, 2, 3. Default: etcd's commit is the acknowledgement.
 */
#ifndef MAXE
#define MAXE 3
#endif
#define MUST(claim, cond) assert((cond) || claim)
hidden byte ACKED_IN_SEAL, ONE_SEAL, SEAL_READABLE, RECOVERY_ENDS;

byte put;        /* puts begun: 1..put */
byte landed;     /* bit i-1: object i is in the store */
byte checked;    /* M_CHECKFIRST: objects that the writer looked at the record for */
byte committed; byte acked;
byte meta; byte rev = 1; byte sealEnd; byte nseals;
byte rst[2]; byte myrev[2]; byte endR[2];

#define HAVE(n) (landed & (1 << (n)))
inline CHECK() {
    MUST(ACKED_IN_SEAL, meta != 2 || acked <= sealEnd);
    MUST(ONE_SEAL, nseals <= 1);
    MUST(SEAL_READABLE, meta != 2 || sealEnd < 1 || HAVE(0));
    MUST(SEAL_READABLE, meta != 2 || sealEnd < 2 || HAVE(1));
    MUST(SEAL_READABLE, meta != 2 || sealEnd < 3 || HAVE(2))
}
#define SEAL(k) rst[k] = 3; if :: meta == 1 && rev == myrev[k] -> meta = 2; rev++; sealEnd = endR[k]; nseals++; CHECK() :: else fi
#ifdef M_LISTFIRST      /* a recoverer looks for the end before it has swapped the record */
#define RECOVERER(k) \
    :: d_step { rst[k] == 0 && meta != 2 -> endR[k] = committed; rst[k] = 1 } \
    :: d_step { rst[k] == 1 && meta != 2 -> meta = 1; rev++; myrev[k] = rev; rst[k] = 2 } \
    :: d_step { rst[k] == 1 && meta == 2 -> rst[k] = 3 } \
    :: d_step { rst[k] == 2 -> SEAL(k) }
#else
#define RECOVERER(k) \
    :: d_step { rst[k] == 0 && meta != 2 -> meta = 1; rev++; myrev[k] = rev; rst[k] = 1 } \
    :: d_step { rst[k] == 1 -> endR[k] = committed; rst[k] = 2 } \
    :: d_step { rst[k] == 2 -> SEAL(k) }
#endif
#ifdef M_NOREVCOMPARE   /* the commit does not compare the stream's revision */
#define OWN true
#else
#define OWN (meta == 0)
#endif
#ifdef M_COMMITBEFOREPUT
#define THERE(n) true
#else
#define THERE(n) HAVE(n)
#endif

init {
    do
    :: d_step { put < MAXE -> put++ }
    :: d_step { put >= 1 && !HAVE(0) -> landed = landed | 1 }
    :: d_step { put >= 2 && !HAVE(1) -> landed = landed | 2 }
    :: d_step { put >= 3 && !HAVE(2) -> landed = landed | 4 }
#ifdef M_CHECKFIRST     /* looks at the record, then puts and acknowledges; recovery takes what the store lists */
    :: d_step { checked < MAXE && meta == 0 -> checked++ }
    :: d_step { acked < checked && HAVE(acked) -> acked++; committed = acked; CHECK() }
#else
    :: d_step { committed < put && THERE(committed) && OWN -> committed++ }
    :: d_step { acked < committed -> acked++; CHECK() }
#endif
    RECOVERER(0) RECOVERER(1)
    :: else -> break
    od;
    MUST(RECOVERY_ENDS, meta == 2)
}
