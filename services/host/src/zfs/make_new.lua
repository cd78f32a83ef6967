-- Rolls clones back to @clean and notes the boot for which it was done.
-- argv: dataset, boot, dataset, boot, ... ; returns a table of those that were left as they were, with the reason.
-- zfs.get_prop and zfs.sync.* stop the whole program on a dataset that is not there, so that is asked first.
local argv = (...)["argv"]

local function make_new(dataset, boot)
    local clean = dataset .. "@clean"
    if not zfs.exists(dataset) or not zfs.exists(clean) then
        return "missing"
    end
    local mark, source = zfs.get_prop(dataset, "org.clusterducks:id")
    if mark == nil or source ~= dataset or string.sub(mark, 1, 7) ~= "device:" then
        return "unmarked"
    end
    -- zfs.sync.rollback goes to the newest snapshot, whichever that is.
    local clean_txg = zfs.get_prop(clean, "createtxg")
    for snapshot in zfs.list.snapshots(dataset) do
        if snapshot ~= clean and zfs.get_prop(snapshot, "createtxg") >= clean_txg then
            return "newer-snapshot"
        end
    end
    local code = zfs.sync.rollback(dataset)
    if code == 0 then
        code = zfs.sync.set_prop(dataset, "org.clusterducks:boot", boot)
    end
    if code ~= 0 then
        return code
    end
end

local refused = {}
for i = 1, #argv, 2 do
    refused[argv[i]] = make_new(argv[i], argv[i + 1])
end
return refused
