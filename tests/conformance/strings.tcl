# Appended to the suite's tests/support/util.tcl for a server that holds strings only: the random data set of its
# load generators, of what there is. It goes when the other types come.
proc createComplexDataset {r ops {opt {}}} {
    set tag [expr {[lsearch -exact $opt usetag] != -1 ? "{t}" : ""}]
    set useexpire [expr {[lsearch -exact $opt useexpire] != -1}]
    for {set j 0} {$j < $ops} {incr j} {
        set k [randomKey]$tag
        set k2 [randomKey]$tag
        set v [randomValue]
        if {$useexpire && rand() < 0.1} {
            {*}$r expire [randomKey] [randomInt 2]
        }
        randpath {
            {*}$r set $k $v
        } {
            {*}$r append $k $v
        } {
            {*}$r setrange $k [randomInt 20] $v
        } {
            {*}$r mset $k $v $k2 [randomValue]
        } {
            {*}$r incrby number:$k [randomInt 1000]
        } {
            {*}$r incrbyfloat float:$k 0.5
        } {
            if {$k ne $k2} {{*}$r copy $k $k2 replace}
        } {
            {*}$r del $k
        } {
            {*}$r getdel $k2
        }
    }
}
