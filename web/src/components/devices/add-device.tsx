"use client";

import { useMutation, useQuery, useQueryClient } from "@tanstack/react-query";
import Link from "next/link";
import { useId } from "react";
import { useForm } from "react-hook-form";

import { DeviceCredentials } from "@/components/devices/device-credentials";
import { Button, buttonClass } from "@/components/ui/button";
import { Dialog } from "@/components/ui/dialog";
import { Field, Input } from "@/components/ui/field";
import { Failure } from "@/components/ui/states";
import { createDevice, createProfile, devicesKey, profileList } from "@/lib/api/devices";
import { useMay } from "@/lib/auth/permissions";
import { deviceHref } from "@/lib/routes";

interface NewDevice {
  name: string;
  type: string;
}

/** Asks for a name and a type, then shows the credentials, which the API tells only once. */
export function AddDevice({ onClose }: { onClose: () => void }) {
  const may = useMay();
  const typesId = useId();
  const queries = useQueryClient();
  const {
    register,
    handleSubmit,
    formState: { errors },
  } = useForm<NewDevice>({ defaultValues: { name: "", type: "" } });
  const profiles = useQuery(profileList());
  const creation = useMutation({
    mutationFn: async (device: NewDevice) => {
      const known = profiles.data?.some(({ name }) => name === device.type) ?? false;
      if (!known && may("profiles:manage")) await createProfile(device.type);
      return createDevice(device);
    },
    onSuccess: () => queries.invalidateQueries({ queryKey: devicesKey }),
  });

  if (creation.data) {
    const { device, credentials } = creation.data;
    return (
      <Dialog
        key="credentials"
        sticky
        onClose={onClose}
        title={`${device.name} is registered`}
        description="The key is shown this once; only its fingerprint is stored."
      >
        <DeviceCredentials credentials={credentials} />
        <div className="flex flex-wrap justify-end gap-2">
          <Link href={deviceHref(device.id)} className={buttonClass("secondary")}>
            Open device
          </Link>
          <Button variant="primary" onClick={onClose}>
            I have kept the key
          </Button>
        </div>
      </Dialog>
    );
  }

  return (
    <Dialog
      key="form"
      onClose={onClose}
      title="Add a device"
      description="It gets credentials, and waits for its first connection."
    >
      <form
        noValidate
        className="flex flex-col gap-4"
        onSubmit={(event) => void handleSubmit((device) => creation.mutate(device))(event)}
      >
        {creation.error && <Failure error={creation.error} title="The device was not added" />}
        <Field label="Name" error={errors.name?.message}>
          {(control) => (
            <Input
              autoComplete="off"
              placeholder="engine-1"
              {...control}
              {...register("name", { required: "Give it a name" })}
            />
          )}
        </Field>
        <Field
          label="Type"
          hint={
            may("profiles:manage")
              ? "Devices of one type share metrics, models and automations. A new type is added."
              : "Devices of one type share metrics, models and automations."
          }
          error={errors.type?.message}
        >
          {(control) => (
            <>
              <Input
                autoComplete="off"
                list={typesId}
                {...control}
                {...register("type", { required: "Say what kind of device it is" })}
              />
              <datalist id={typesId}>
                {profiles.data?.map(({ name }) => (
                  <option key={name} value={name} />
                ))}
              </datalist>
            </>
          )}
        </Field>
        <div className="flex justify-end gap-2">
          <Button onClick={onClose}>Cancel</Button>
          <Button type="submit" variant="primary" busy={creation.isPending}>
            Add device
          </Button>
        </div>
      </form>
    </Dialog>
  );
}
