-- Destroys a dataset and its own snapshots if it carries the mark. argv: dataset, mark.
-- Nothing is destroyed that something else hangs on.
local argv = (...)["argv"]

local function destroy(dataset, wanted)
    if not zfs.exists(dataset) then
        return nil
    end
    local mark, source = zfs.get_prop(dataset, "org.clusterducks:id")
    if mark ~= wanted or source ~= dataset then
        return "unmarked"
    end
    for _ in zfs.list.children(dataset) do
        return "has-children"
    end
    local snapshots = {}
    for snapshot in zfs.list.snapshots(dataset) do
        for _ in zfs.list.clones(snapshot) do
            return "has-clones"
        end
        snapshots[#snapshots + 1] = snapshot
    end
    for _, snapshot in ipairs(snapshots) do
        local code = zfs.sync.destroy(snapshot)
        if code ~= 0 then
            return code
        end
    end
    local code = zfs.sync.destroy(dataset)
    if code ~= 0 then
        return code
    end
end

local refused = {}
refused[argv[1]] = destroy(argv[1], argv[2])
return refused
