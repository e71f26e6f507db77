package interp

// handlers carry the commands out: every one of the table, a test looks for holes.
var handlers map[string]handler

func init() { // not in the declaration: HELP reads the table
	handlers = map[string]handler{
		"CONNECT": (*Interp).connect, "CONNECT TDU": (*Interp).connect, "DISCONNECT": (*Interp).disconnect,
		"ENVIRONMENT": (*Interp).environment, "EXIT": (*Interp).leave, "QUIT": (*Interp).leave,
		"GET": (*Interp).getSetting, "SET": (*Interp).setSetting,
		"FAILBACK": (*Interp).failback, "FAILOVER": (*Interp).failover, "NICLIST": (*Interp).nicList,
		"MONITOR ADD": (*Interp).monitorAdd, "MONITOR CLEAR": (*Interp).monitorClear, "MONITOR CREATE": (*Interp).monitorCreate, "MONITOR DELETE": (*Interp).monitorSimple,
		"MONITOR DISPLAY": (*Interp).monitorDisplay, "MONITOR GET": (*Interp).monitorGet, "MONITOR LIST": (*Interp).monitorList, "MONITOR MOVE": (*Interp).monitorMove,
		"MONITOR OPTION": (*Interp).monitorOption, "MONITOR REMOVE": (*Interp).monitorRemove, "MONITOR SCRIPT ADD": (*Interp).monitorScriptAdd, "MONITOR SCRIPT REMOVE": (*Interp).monitorScriptRemove,
		"MONITOR START": (*Interp).monitorSimple, "MONITOR STOP": (*Interp).monitorSimple, "MONITOR USE": (*Interp).monitorUse,
		"GETENVSTR": (*Interp).getenvstr, "GETLOCAL": (*Interp).getLocal, "SETLOCAL": (*Interp).setLocal,
		"HELP":        (*Interp).help,
		"MACHINE ADD": (*Interp).machineAdd, "MACHINE REMOVE": (*Interp).machineRemove,
		"MIRROR PAUSE": (*Interp).mirror, "MIRROR RESUME": (*Interp).mirror, "MIRROR START": (*Interp).mirror, "MIRROR STOP": (*Interp).mirror,
		"MOUNT": (*Interp).mount, "UMOUNT": (*Interp).umount,
		"PAUSETARGET": (*Interp).pauseTarget, "RESUMETARGET": (*Interp).pauseTarget,
		"PING":      (*Interp).ping,
		"LOGVIEWER": (*Interp).logviewer, "SHUTDOWN": (*Interp).shutdown,
		"LOGIN": (*Interp).login, "LOGOUT": (*Interp).logout,
		"REPSET CALCULATE": (*Interp).repsetCalculate, "REPSET CREATE": (*Interp).repsetCreate, "REPSET DELETE": (*Interp).repsetDelete,
		"REPSET DISPLAY": (*Interp).repsetDisplay, "REPSET LIST": (*Interp).repsetList, "REPSET RESYNC": (*Interp).repsetResync,
		"REPSET RULE ADD": (*Interp).ruleAdd, "REPSET RULE REMOVE": (*Interp).ruleRemove, "REPSET SAVE": (*Interp).repsetSave, "REPSET USE": (*Interp).repsetUse,
		"SETTLE": (*Interp).settle, "WAITONMIRROR": (*Interp).waitOnMirror, "WAITONTARGET": (*Interp).settle,
		"LOAD SOURCE": (*Interp).loadModule, "LOAD TARGET": (*Interp).loadModule, "UNLOAD SOURCE": (*Interp).loadModule, "UNLOAD TARGET": (*Interp).loadModule,
		"SCRIPT ADD": (*Interp).scriptAdd,
		"SOURCE":     (*Interp).chooseSource, "TARGET": (*Interp).chooseTarget,
		"STATUS": (*Interp).status, "TESTCON": (*Interp).testcon, "TIMENOW": (*Interp).timenow,
		"TRANSMISSION PAUSE": (*Interp).transmission, "TRANSMISSION RESUME": (*Interp).transmission,
		"TRANSMISSION START": (*Interp).transmission, "TRANSMISSION STOP": (*Interp).transmission,
		"REPLICATION START": (*Interp).replication, "REPLICATION STOP": (*Interp).replication,
		"LIMIT BANDWIDTH": (*Interp).limitBandwidth, "SCHEDULE CLEAR": (*Interp).schedule, "SCHEDULE DISABLE": (*Interp).schedule,
		"SCHEDULE ENABLE": (*Interp).schedule, "SCHEDULE END": (*Interp).schedule, "SCHEDULE START": (*Interp).schedule, "SCHEDULE WINDOW": (*Interp).schedule,
		"QUEUETASK": (*Interp).queueTask,
		"DTSTAT":    (*Interp).dtstat, "STATSLOG START": (*Interp).statslog, "STATSLOG STATUS": (*Interp).statslog, "STATSLOG STOP": (*Interp).statslog,
		"VERIFY": (*Interp).verify, "VERIFY SCHEDULE": (*Interp).verifySchedule, "VERIFY UNSCHEDULE": (*Interp).verifySchedule, "VERIFY STATUS": (*Interp).verifyStatus, "ORPHANS START": (*Interp).orphans, "ORPHANS STOP": (*Interp).orphansStop,
		"RESTORE": (*Interp).restore, "WAITONRESTORE": (*Interp).waitOnRestore,
		"MARK": (*Interp).mark, "HISTORY": (*Interp).history, "HISTORY CLEAR": (*Interp).history,
		"REPLAY": (*Interp).replay, "REPLAY STATUS": (*Interp).replayStatus, "REPLAY STOP": (*Interp).replayStop,
		"WAIT": (*Interp).wait, "WRITE": (*Interp).write,
	}
}
